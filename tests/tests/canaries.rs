//! Canaries: words planted in everything a person types are found in no log, error, audit export,
//! database file, object, backup or temporary file of a whole journey (P8).
#![cfg(test)]

use std::path::{Path, PathBuf};

use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_proto::identity::v1::{CreateClientRequest, SignInRequest};
use domicile_proto::records::v1::import_fhir_request::Part;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{
    Answer, Assessment, Booking, FormResponse, Goal, ImportFhirRequest, ImportHeader, ItemDraft, Message,
    Note, Payload, Payment, PutItemRequest, Referral, Reflection,
};
use domicile_proto::transfer::v1::TransferState;
use domicile_store::Backend;
use domicile_tests::world::moves::{attach, reaches};
use domicile_tests::world::{Login, Outcome, Patient, Practice, Tuning, World};
use futures::stream;

/// Planted in every value; long enough that chance does not make it.
const CANARY: &str = "zq9Kanarienvogel7xw";

fn planted(place: &str) -> String {
    format!("{place} {CANARY} {place}")
}

#[tokio::test]
async fn nothing_a_person_typed_is_found_on_sqlite() {
    journey(Backend::Sqlite).await.unwrap();
}

#[tokio::test]
async fn nothing_a_person_typed_is_found_on_postgres() {
    journey(Backend::Postgres).await.unwrap();
}

/// A finder that finds nothing shows nothing: it must find what is there, in every form.
#[test]
fn the_finder_finds_every_form() {
    for form in forms() {
        let hidden = [b"\x00\x01head".as_slice(), &form, b"tail"].concat();
        assert!(found(&hidden, &forms()), "a form is not found");
    }
    assert!(!found(b"nothing here", &forms()));
}

async fn journey(backend: Backend) -> Outcome<()> {
    let mut world = World::start(backend, &["eu", "ca"], &Tuning::default()).await?;
    let practice = world.practice("vogel", "eu", &["ca"]).await?;
    let patient = planted_patient(&world, &practice).await?;
    let mut errors = Vec::new();
    for kind in kinds() {
        put(&practice.home, &patient.subject, kind, &mut errors).await;
    }
    let reflection = Kind::Reflection(Reflection { text: planted("reflection") });
    put(&patient.client, &patient.subject, reflection, &mut errors).await;
    attach(&practice.home, &patient.subject, planted("attachment").repeat(9_000).as_bytes()).await?;
    import(&practice.home, &patient.subject, &planted_bundle(), &mut errors).await;
    import(&practice.home, &patient.subject, &format!("{{\"resourceType\": \"{CANARY}\""), &mut errors).await;
    wrong_requests(&world, &practice, &patient, &mut errors).await?;

    let moving = patient.ask("ca").await?;
    patient.consent(&moving).await?;
    let client = loop {
        match world.sign_in("ca", &patient.login).await {
            Ok(client) => break client,
            Err(_) => domicile_tests::world::pause().await,
        }
    };
    reaches(&client, &moving.id, TransferState::Closed).await?;
    world.verify(["eu", "ca"], &moving.id).await?;
    for name in ["coordinator", "eu", "ca"] {
        world.stop(name).await?;
    }

    assert!(!errors.is_empty(), "something was refused");
    for error in &errors {
        assert!(!found(error.as_bytes(), &forms()), "an error tells what a person typed");
    }
    let mut places = vec![world.folder.clone()];
    for database in world.databases.values() {
        let postgres = database.postgres().ok_or("no database")?;
        places.push(PathBuf::from(postgres.admin("SHOW data_directory")?.trim()));
    }
    let (mut files, forms) = (0, forms());
    for place in places {
        scan(&place, &forms, &mut files)?;
    }
    assert!(files > 20, "the scan saw {files} files");
    Ok(())
}

async fn planted_patient(world: &World, practice: &Practice) -> Outcome<Patient> {
    let login = Login {
        email: format!("{CANARY}@client.example").to_lowercase(),
        password: domicile_tests::region::PASSWORD.to_owned(),
    };
    let request = CreateClientRequest {
        email: login.email.clone(),
        name: planted("name"),
        practitioner_id: String::new(),
        region_chosen_by_client: true,
    };
    let created = answer(practice.home.identity().create_client(request)).await?;
    let client = world.activate("eu", &created.invitation, &login).await?;
    Ok(Patient { login, subject: created.subject_id, client })
}

fn kinds() -> Vec<Kind> {
    let text = |place: &str| planted(place);
    vec![
        Kind::Note(Note { title: text("title"), text: text("note"), template: text("template") }),
        Kind::Booking(Booking {
            name: text("name"),
            email: text("email"),
            location: text("location"),
            reason: text("reason"),
        }),
        Kind::Message(Message { title: text("subject"), text: text("message") }),
        Kind::Goal(Goal { text: text("goal") }),
        Kind::Referral(Referral { to: text("to"), reason: text("why"), snapshot: text("snapshot") }),
        Kind::FormResponse(FormResponse {
            form: text("form"),
            answers: vec![Answer { question: text("question"), text: text("answer") }],
        }),
        Kind::Assessment(Assessment { instrument: text("instrument"), answers: vec![1, 2], score: 3 }),
        Kind::Payment(Payment { amount_minor: 100, currency: "EUR".to_owned(), method: text("method") }),
    ]
}

/// Writes an item; a refusal's whole text is kept for the scan.
async fn put(client: &Client, subject: &str, kind: Kind, errors: &mut Vec<String>) {
    let draft = ItemDraft { payload: Some(Payload { kind: Some(kind) }), ..Default::default() };
    let request =
        PutItemRequest { subject_id: subject.to_owned(), idempotency_key: World::key(), draft: Some(draft) };
    if let Err(status) = client.records().put_item(request).await {
        errors.push(format!("{status:?}"));
    }
}

fn planted_bundle() -> String {
    let resource = serde_json::json!({
        "resourceType": "Patient", "id": "1", "name": [{ "family": planted("family") }],
    });
    let entry = serde_json::json!({ "fullUrl": "urn:uuid:1", "resource": resource });
    serde_json::json!({ "resourceType": "Bundle", "type": "collection", "entry": [entry] }).to_string()
}

async fn import(client: &Client, subject: &str, bundle: &str, errors: &mut Vec<String>) {
    let header = ImportHeader { subject_id: subject.to_owned(), idempotency_key: World::key() };
    let parts = vec![
        ImportFhirRequest { part: Some(Part::Header(header)) },
        ImportFhirRequest { part: Some(Part::Content(bundle.as_bytes().to_vec())) },
    ];
    if let Err(status) = client.records().import_fhir(stream::iter(parts)).await {
        errors.push(format!("{status:?}"));
    }
}

/// Requests that are refused, each with the canary in it.
async fn wrong_requests(
    world: &World,
    practice: &Practice,
    patient: &Patient,
    errors: &mut Vec<String>,
) -> Outcome<()> {
    let wrong = SignInRequest { email: patient.login.email.clone(), password: planted("password") };
    let refused = world.anyone("eu")?.identity().sign_in(wrong).await;
    errors.extend(refused.err().map(|status| format!("{status:?}")));
    let stray = PutItemRequest {
        subject_id: planted("no id"),
        idempotency_key: planted("key"),
        draft: Some(ItemDraft { state: planted("state"), ..Default::default() }),
    };
    let refused = practice.home.records().put_item(stray).await;
    errors.extend(refused.err().map(|status| format!("{status:?}")));
    Ok(())
}

/// The canary as it could stand somewhere: plain, lower case, hexadecimal, base64 at each offset, percent-encoded.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = CANARY.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut forms = vec![
        CANARY.as_bytes().to_vec(),
        CANARY.to_lowercase().into_bytes(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        percent.into_bytes(),
        CANARY.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ];
    forms.extend((0..3).map(|skip| base64(&CANARY.as_bytes()[skip..])));
    forms
}

/// Base64 of whole groups of three only: what does not depend on what comes before or after.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| LETTERS[usize::try_from(bits & 63).unwrap()];
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)]
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

fn scan(place: &Path, forms: &[Vec<u8>], files: &mut usize) -> Outcome<()> {
    for entry in std::fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, forms, files)?;
        } else if path.is_file() {
            *files += 1;
            assert!(!found(&std::fs::read(&path)?, forms), "a canary lies in {}", path.display());
        }
    }
    Ok(())
}

/// Whether any form stands anywhere; by its first byte, fast enough for a cluster's files.
fn found(content: &[u8], forms: &[Vec<u8>]) -> bool {
    forms.iter().any(|form| {
        let mut at = 0;
        while let Some(next) = content[at..].iter().position(|byte| *byte == form[0]) {
            at += next;
            if content[at..].starts_with(form) {
                return true;
            }
            at += 1;
        }
        false
    })
}
