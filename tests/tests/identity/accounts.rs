//! Invitations, practices, clients, roles, and what the database shows of people.

use super::*;

on_both!(
    an_invitation_works_once_and_not_for_ever,
    without_the_agreement_no_client_is_stored,
    an_address_has_one_account,
    a_client_joins_the_caseload_of_the_practice_alone,
    every_rpc_refuses_every_other_role,
    bootstrap_is_for_the_first_accounts,
    nothing_readable_is_stored,
);

async fn an_invitation_works_once_and_not_for_ever(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    let weak = ActivateAccountRequest { code: client.invitation.clone(), password: "short".to_owned() };
    refused(bench.anyone().activate_account(weak).await, Code::PasswordWeak);
    assert_eq!(bench.activate(&client.invitation).await.unwrap(), client.account_id);
    let entry = last(&bench).await;
    assert_eq!(
        (entry.event.name(), entry.actor),
        ("identity.account_activate", Some(account(&client.account_id)))
    );
    refused(bench.activate(&client.invitation).await, Code::InvitationInvalid);
    refused(bench.activate(&"A".repeat(43)).await, Code::InvitationInvalid);
    refused(bench.activate("nonsense").await, Code::InvitationInvalid);

    let late = bench.client(&practice.token, "late@mail.example").await.unwrap();
    bench.clock.advance(bench.sessions.invitation);
    refused(bench.activate(&late.invitation).await, Code::InvitationInvalid);
}

/// P46: before a practice stores a client it has signed the region's agreement.
async fn without_the_agreement_no_client_is_stored(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.unsigned_practice(&operator, ADMIN).await.unwrap();
    refused(bench.client(&practice.token, CLIENT).await, Code::AgreementMissing);
    let mut admin = bench.signed_in(&practice.token).unwrap();
    let sign = |version: &str| SignAgreementRequest { version: version.to_owned() };
    refused(admin.sign_agreement(sign("1999-12")).await, Code::InvalidRequest);
    refused(bench.client(&practice.token, CLIENT).await, Code::AgreementMissing);
    let first = admin.sign_agreement(sign(AGREEMENT)).await.unwrap().into_inner().signed_at_micros;
    bench.clock.advance(MINUTE);
    let again = admin.sign_agreement(sign(AGREEMENT)).await.unwrap().into_inner().signed_at_micros;
    assert_eq!(first, again, "signing again keeps the first time");
    bench.client(&practice.token, CLIENT).await.unwrap();
}

async fn an_address_has_one_account(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    bench.client(&practice.token, CLIENT).await.unwrap();
    let answer = bench.client(&practice.token, "CLARA.nord@Mail.example").await;
    assert_eq!(code(answer), (Code::AccountExists, Grpc::AlreadyExists));
    refused(bench.client(&practice.token, ADMIN).await, Code::AccountExists);
    let mut admin = bench.signed_in(&practice.token).unwrap();
    let colleague = CreatePractitionerRequest { email: CLIENT.to_owned(), name: "Peter".to_owned() };
    refused(admin.create_practitioner(colleague).await, Code::AccountExists);
    let second = CreatePracticeRequest {
        name: "Another".to_owned(),
        admin_email: ADMIN.to_uppercase(),
        admin_name: "Paula".to_owned(),
        data_role: "operator".to_owned(),
    };
    refused(bench.signed_in(&operator).unwrap().create_practice(second.clone()).await, Code::AccountExists);
    let hostile = CreatePracticeRequest { name: "a\r\nb".to_owned(), ..second.clone() };
    refused(bench.signed_in(&operator).unwrap().create_practice(hostile).await, Code::InvalidRequest);
    let unknown = CreatePracticeRequest { data_role: "owner".to_owned(), ..second };
    refused(bench.signed_in(&operator).unwrap().create_practice(unknown).await, Code::InvalidRequest);
    let mut both = (bench.signed_in(&practice.token).unwrap(), bench.signed_in(&practice.token).unwrap());
    let twin = || CreateClientRequest {
        email: "twin@mail.example".to_owned(),
        name: "Twin".to_owned(),
        practitioner_id: String::new(),
        region_chosen_by_client: false,
    };
    let (first, second) = tokio::join!(both.0.create_client(twin()), both.1.create_client(twin()));
    assert!(first.is_ok() != second.is_ok(), "of two at once, one wins");
    refused(if first.is_ok() { second } else { first }, Code::AccountExists);
    if let Some(database) = bench.databases.postgres() {
        let sql = "SELECT count(DISTINCT subject_id) FROM domicile_keys.record_key";
        assert_eq!(database.admin(sql).unwrap().trim(), "2", "no key is left of the one that was refused");
    }
}

struct Opened {
    epoch: u64,
    standing: String,
    choice: String,
    practitioner: AccountId,
    practice: PracticeId,
}

impl FromRow for Opened {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            epoch: row.get("epoch")?,
            standing: row.get("standing")?,
            choice: row.get("region_choice")?,
            practitioner: row.get("practitioner_id")?,
            practice: row.get("practice_id")?,
        })
    }
}

async fn opened(bench: &Bench, subject: &str) -> Opened {
    let subject: SubjectId = subject.parse().unwrap();
    let read = bench.store.read("test.opened", Scope::Subject(subject), move |tx| {
        let sql = "SELECT r.epoch, r.standing, r.region_choice, c.practitioner_id, c.practice_id FROM residency r \
                   JOIN care_relationship c ON c.subject_id = r.subject_id WHERE r.subject_id = $1";
        Box::pin(async move { tx.one::<Opened>(sql, values![subject]).await })
    });
    read.await.unwrap().unwrap()
}

/// P18: a record the practice opens for a client is marked so.
async fn a_client_joins_the_caseload_of_the_practice_alone(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let other = bench.practice(&operator, "otto@elsewhere.example").await.unwrap();
    let mut admin = bench.signed_in(&practice.token).unwrap();
    let colleague =
        CreatePractitionerRequest { email: "pia@praxis.example".to_owned(), name: "Pia".to_owned() };
    let pia = admin.create_practitioner(colleague).await.unwrap().into_inner();
    let pia_token = bench.join(&pia.invitation, "pia@praxis.example").await.unwrap();

    let request = |email: &str, practitioner: &str| CreateClientRequest {
        email: email.to_owned(),
        name: "Clara Nord".to_owned(),
        practitioner_id: practitioner.to_owned(),
        region_chosen_by_client: false,
    };
    let hers = admin.create_client(request(CLIENT, &pia.account_id)).await.unwrap().into_inner();
    let entry = last(&bench).await;
    assert_eq!(entry.subject, Some(*hers.subject_id.parse::<SubjectId>().unwrap().as_bytes()));
    let row = opened(&bench, &hers.subject_id).await;
    assert_eq!((row.epoch, row.standing.as_str(), row.choice.as_str()), (1, "Active", "practice_default"));
    assert_eq!((row.practitioner.to_string(), row.practice.to_string()), (pia.account_id, practice.id));

    let mut pia = bench.signed_in(&pia_token).unwrap();
    refused(pia.create_client(request("x@mail.example", &practice.admin)).await, Code::Forbidden);
    let own = pia.create_client(request("y@mail.example", "")).await.unwrap().into_inner();
    assert_eq!(opened(&bench, &own.subject_id).await.practitioner, row.practitioner);
    refused(admin.create_client(request("x@mail.example", &other.admin)).await, Code::NotFound);
    refused(admin.create_client(request("x@mail.example", &hers.account_id)).await, Code::NotFound);
    refused(admin.create_client(request("x@mail.example", "no id")).await, Code::InvalidRequest);
}

/// Calls an RPC with an empty message.
async fn call(
    mut identity: tonic::client::Grpc<domicile_rpc::Channel>,
    path: &'static str,
) -> Result<(), Status> {
    identity.ready().await.map_err(|_| Status::unavailable("not ready"))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    identity.unary(tonic::Request::new(()), path.parse().unwrap(), codec).await.map(drop)
}

async fn every_rpc_refuses_every_other_role(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, compliance] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    let client = bench.join(&client.invitation, CLIENT).await.unwrap();
    let colleague =
        CreatePractitionerRequest { email: "pia@praxis.example".to_owned(), name: "Pia".to_owned() };
    let pia =
        bench.signed_in(&practice.token).unwrap().create_practitioner(colleague).await.unwrap().into_inner();
    let pia = bench.join(&pia.invitation, "pia@praxis.example").await.unwrap();
    let people = [
        ("client", &client),
        ("practitioner", &pia),
        ("practice_admin", &practice.token),
        ("operator", &operator),
        ("compliance", &compliance),
    ];
    let rules = domicile_proto::RULES.iter().filter(|rule| rule.path.starts_with("/domicile.identity.v1."));
    let mut seen = 0;
    for rule in rules.filter(|rule| !rule.roles.contains(&"anonymous")) {
        seen += 1;
        let before = entries(&bench).await.len();
        let nobody = tonic::client::Grpc::new(bench.people.channel.clone());
        assert_eq!(code(call(nobody, rule.path).await).1, Grpc::Unauthenticated, "{}", rule.path);
        let mut refusals = 1;
        for (role, token) in people.iter().filter(|(role, _)| !rule.roles.contains(role)) {
            let channel = tonic::client::Grpc::new(bench.people.with(token).unwrap());
            let answer = code(call(channel, rule.path).await);
            assert_eq!(answer, (Code::Forbidden, Grpc::PermissionDenied), "{role} called {}", rule.path);
            refusals += 1;
        }
        let entries = entries(&bench).await;
        assert_eq!(entries.len() - before, refusals, "each refusal is in the log");
        assert!(entries[before..].iter().all(|entry| entry.event.name() == rule.audit));
    }
    assert_eq!(seen, 10, "every RPC of the service was tried");
}

async fn bootstrap_is_for_the_first_accounts(backend: Backend) {
    let bench = eu(backend).await;
    let person = |name: &str| domicile_identity::Person {
        email: format!("{name}@operator.example"),
        name: name.to_owned(),
    };
    let bootstrap =
        async |operator, compliance| bench.identity.bootstrap(person(operator), person(compliance)).await;
    let [first, _] = bootstrap("olu", "cora").await.unwrap();
    assert_eq!(last(&bench).await.event.name(), "identity.bootstrap");
    let [operator, compliance] = bootstrap("olu", "cora").await.unwrap();
    assert_eq!(first.account, operator.account);
    refused(bench.activate(&first.invitation.unwrap()).await, Code::InvitationInvalid);
    let token = bench.join(&operator.invitation.unwrap(), "olu@operator.example").await.unwrap();
    bench.activate(&compliance.invitation.unwrap()).await.unwrap();
    let again = bootstrap("olu", "cora").await.unwrap();
    assert!(again.iter().all(|person| person.invitation.is_none()), "who has a password keeps it");
    who(&bench, &token).await.unwrap();
    for (operator, compliance, expected) in [
        ("eve", "cora", Code::Conflict),
        ("olu", "eve", Code::Conflict),
        ("cora", "olu", Code::AccountExists),
    ] {
        assert_eq!(bootstrap(operator, compliance).await.map(drop).unwrap_err().code(), expected);
    }
}

/// P8: what people are called, and what opens their accounts, is nowhere to be read.
async fn nothing_readable_is_stored(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    let token = bench.join(&client.invitation, CLIENT).await.unwrap();
    let canaries = [
        PASSWORD,
        CLIENT,
        ADMIN,
        "Clara Nord",
        "Paula Adler",
        "Praxis am Hafen",
        "operator.example",
        token.as_str(),
        client.invitation.as_str(),
    ];
    let content: Vec<u8> = match bench.databases.folder() {
        Some(folder) => {
            let files = std::fs::read_dir(folder).unwrap();
            files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
        }
        None => dump(bench.databases.postgres().unwrap()),
    };
    let holds = |needle: &[u8]| content.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"argon2id") && holds(b"domicile.test/eu"), "this looks where it should");
    for canary in canaries {
        assert!(!holds(canary.as_bytes()), "{canary} is stored in clear");
    }
}

/// What PostgreSQL keeps of people, as text, sealed bytes and all.
fn dump(database: &Database) -> Vec<u8> {
    let tables = ["account", "practice", "session", "residency", "care_relationship", "audit_outbox"];
    let of = |table: &&str| {
        let sql = format!(
            "SELECT t::text, (SELECT string_agg(encode(decode(m[1], 'hex'), 'escape'), ' ') FROM \
             regexp_matches(t::text, '\\\\x([0-9a-f]+)', 'g') m) FROM {table} t"
        );
        database.admin(&sql).unwrap().into_bytes()
    };
    tables.iter().flat_map(of).collect()
}
