//! Hostile words: markup, line breaks, NUL, escapes of terminals, letters that turn the direction of writing.
//! They are content where content is asked for, refused elsewhere, and never part of a log or of a terminal's
//! lines.

use std::sync::Arc;

use domicile_cli::client::answer;
use domicile_cli::place::ClientFile;
use domicile_proto::identity::v1::{CreateClientRequest, CreatePracticeRequest, SignInRequest};
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{GetItemRequest, ItemDraft, Note, Payload, PutItemRequest};
use domicile_rpc::{Endpoint, Pem, ServerIdentity, TcpNet, connect, from_status};
use domicile_store::Backend;
use domicile_tests::abuse::{framed, raw, whole};
use domicile_tests::region::PASSWORD;
use domicile_tests::world::{Outcome, Patient, Practice, Tuning, World, run};
use domicile_types::Code;
use prost::Message as _;

/// Everything at once; `forged` stands nowhere by chance.
const HOSTILE: &str = "<script>forged()</script>\r\n{\"level\":\"ERROR\",\"forged\":true}\r\n\
                       2026-01-01T00:00:00.000000Z ERROR forged\u{0}\u{1b}[2J\u{202e}txt.forged";

#[tokio::test]
async fn hostile_words_stay_words() {
    hostile().await.unwrap();
}

async fn hostile() -> Outcome<()> {
    let mut world = World::start(Backend::Sqlite, &["eu", "ca"], &Tuning::default()).await?;
    for (name, format) in [("eu", "json"), ("ca", "text")] {
        world.stop(name).await?;
        let file = world.home(name).join("config.toml");
        let mut settings: toml::Table = std::fs::read_to_string(&file)?.parse()?;
        let log = format!("filter = \"trace\"\nformat = \"{format}\"").parse::<toml::Table>()?;
        settings.insert("log".to_owned(), log.into());
        std::fs::write(&file, toml::to_string(&settings)?)?;
        world.restart(name).await?;
    }
    let practice = world.practice("wort", "eu", &["ca"]).await?;
    let patient = world.patient("eu", &practice, "wanda").await?;
    let item = as_content(&practice, &patient).await?;
    for region in ["eu", "ca"] {
        as_names(&world, region, &practice).await?;
        as_metadata(&world, region).await?;
    }
    on_a_terminal(&world, &practice, &patient, &item).await?;
    for name in ["eu", "ca"] {
        world.stop(name).await?;
        clean(&world.log(name)?, name == "eu");
    }
    Ok(())
}

/// In a note every letter is kept as it came.
async fn as_content(practice: &Practice, patient: &Patient) -> Outcome<String> {
    let note = Note { title: HOSTILE.to_owned(), text: HOSTILE.to_owned(), template: HOSTILE.to_owned() };
    let payload = Payload { kind: Some(Kind::Note(note.clone())) };
    let draft = ItemDraft { payload: Some(payload), ..Default::default() };
    let request = PutItemRequest {
        subject_id: patient.subject.clone(),
        idempotency_key: World::key(),
        draft: Some(draft),
    };
    let header = answer(practice.home.records().put_item(request)).await?.header.unwrap_or_default();
    let request =
        GetItemRequest { subject_id: patient.subject.clone(), item_id: header.item_id.clone(), version: 0 };
    let read = answer(practice.home.records().get_item(request)).await?.item.unwrap_or_default();
    assert!(read.payload.and_then(|payload| payload.kind) == Some(Kind::Note(note)), "as it was written");
    Ok(header.item_id)
}

/// Names, addresses, passwords, ids, keys, states: refused with the field's name, or kept and never shown.
async fn as_names(world: &World, region: &str, practice: &Practice) -> Outcome<()> {
    let refused = |status: tonic::Status| {
        let told = format!("{status:?}");
        assert!(!told.contains("forged"), "{told}");
        from_status(&status).code()
    };
    let hostile = || HOSTILE.to_owned();
    let anyone = world.anyone(region)?;
    let request = SignInRequest { email: hostile(), password: hostile() };
    let code = refused(anyone.identity().sign_in(request).await.err().ok_or("signed in")?);
    assert_eq!(code, Code::InvalidRequest);
    let known = SignInRequest { email: practice.login.email.clone(), password: hostile() };
    let code = refused(anyone.identity().sign_in(known).await.err().ok_or("signed in")?);
    assert_eq!(code, Code::SignInFailed);
    let operator = world.operator(region).await?;
    let request = CreatePracticeRequest {
        name: hostile(),
        admin_email: format!("{region}@hostile.example"),
        admin_name: hostile(),
        data_role: hostile(),
    };
    let code = refused(operator.identity().create_practice(request).await.err().ok_or("created")?);
    assert_eq!(code, Code::InvalidRequest);
    let client = world.sign_in(region, &practice.login).await?;
    let request = CreateClientRequest {
        email: format!("h@{HOSTILE}"),
        name: hostile(),
        practitioner_id: hostile(),
        region_chosen_by_client: true,
    };
    refused(client.identity().create_client(request).await.err().ok_or("created")?);
    let request = PutItemRequest {
        subject_id: hostile(),
        idempotency_key: hostile(),
        draft: Some(ItemDraft { state: hostile(), visibility: hostile(), ..Default::default() }),
    };
    let code = refused(client.records().put_item(request).await.err().ok_or("written")?);
    assert_eq!(code, Code::InvalidRequest);
    Ok(())
}

/// What HTTP lets through: quotes, braces, tabs and letters past ASCII in headers, escapes in paths.
async fn as_metadata(world: &World, region: &str) -> Outcome<()> {
    let place = ClientFile::read(&world.folder)?.place(&world.folder, region)?;
    let channel = connect(
        Endpoint {
            uri: place.endpoint.clone(),
            server: ServerIdentity::Dns("localhost".to_owned()),
            authority: Pem::file(&place.ca),
            identity: None,
        },
        Arc::new(TcpNet),
    )?;
    let headers = [
        ("x-request-id", "forged\t\",\"level\":\"ERROR\",\"forged\":{}"),
        ("domicile-request", "forged é"),
        ("traceparent", "00-forged-forged-01"),
        ("grpc-timeout", "forged"),
        ("authorization", "Bearer forged"),
    ];
    let message = SignInRequest { email: "x".to_owned(), password: "y".to_owned() }.encode_to_vec();
    for path in
        ["/domicile.identity.v1.IdentityService/SignIn", "/domicile.identity.v1.IdentityService/WhoAmI"]
    {
        let answer = raw(&channel, path, &headers, whole(framed(0, &message))).await?;
        assert!(!format!("{answer:?}").contains("forged"), "{answer:?}");
    }
    Ok(())
}

/// The command line shows the words without what moves a cursor or forges a line.
async fn on_a_terminal(world: &World, practice: &Practice, patient: &Patient, item: &str) -> Outcome<()> {
    let folder = world.folder.display().to_string();
    let base = ["--data", &folder, "--region", "eu", "--profile", "wort"];
    signed_in(&base, &practice.login.email).await?;
    for command in [
        vec!["item", "get", item, "--subject", &patient.subject],
        vec!["item", "list", "--subject", &patient.subject],
        vec!["item", "versions", item, "--subject", &patient.subject],
    ] {
        let shown = run(&[base.as_slice(), &command].concat()).await?;
        assert!(!shown.contains(['\u{1b}', '\u{0}', '\u{202e}', '\r']), "{shown:?}");
    }
    Ok(())
}

async fn signed_in(base: &[&str], email: &str) -> Outcome<()> {
    use tokio::io::AsyncWriteExt as _;
    let mut command = tokio::process::Command::new(domicile_tests::world::executable()?);
    command.args(base).args(["sign-in", "--email", email, "--password-stdin"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or("no input")?;
    input.write_all(format!("{PASSWORD}\n").as_bytes()).await?;
    drop(input);
    if child.wait().await?.success() { Ok(()) } else { Err("no sign-in".into()) }
}

/// No line of a log was made or changed by what a caller sent.
fn clean(log: &str, json: bool) {
    assert!(log.len() > 5_000, "it was logged");
    assert!(!log.contains("forged"), "{:?}", log.lines().find(|line| line.contains("forged")));
    let control =
        |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!log.contains(control), "{:?}", log.lines().find(|line| line.contains(control)));
    if json {
        let lines = log.lines().filter(|line| line.starts_with('{'));
        assert!(lines.clone().count() > 50);
        for line in lines {
            let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(parsed.get("level").is_some() && parsed.get("timestamp").is_some(), "{line}");
        }
    }
}
