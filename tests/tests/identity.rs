//! Accounts and sessions, through the guard and real TLS, on both databases.
#![cfg(test)]

use std::time::Duration;

use domicile_evidence::enrolment::{Enrolment, Practitioner, SignedEnrolment};
use domicile_evidence::entry::{Entry, Outcome};
use domicile_evidence::keys::{PublicKey, Signer as _};
use domicile_kms::RegionKey;
use domicile_proto::identity::v1::{
    AcceptEnrolmentRequest, AcceptEnrolmentResponse, ActivateAccountRequest, ChangePasswordRequest,
    CreateClientRequest, CreatePracticeRequest, CreatePractitionerRequest, Enrolment as EnrolmentMessage,
    GetEnrolmentRequest, ReauthenticateRequest, SignAgreementRequest, SignOutRequest, WhoAmIRequest,
};
use domicile_rpc::{Sessions as _, from_status};
use domicile_store::queries::residency::{self, Entitled, Standing};
use domicile_store::{Backend, FromRow, Row, Scope, values};
use domicile_tests::postgres::Database;
use domicile_tests::region::{AGREEMENT, Bench, IdentityClient, PASSWORD, TestSigner};
use domicile_types::{AccountId, Code, Ctx, PracticeId, RegionId, Result, Role, SubjectId, Timestamp};
use tonic::{Code as Grpc, Status};

const ADMIN: &str = "paula@praxis.example";
const CLIENT: &str = "clara.nord@mail.example";
const OTHER_PASSWORD: &str = "amber ladder piano 58";
const MINUTE: Duration = Duration::from_secs(60);

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(domicile_store::Backend::Sqlite).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(domicile_store::Backend::Postgres).await; })*
        }
    };
}

on_both!(
    a_person_signs_in_and_out,
    a_wrong_password_and_an_unknown_address_look_the_same,
    guessing_is_slowed_down_and_the_owner_still_gets_in,
    a_session_ends_when_idle_and_in_any_case,
    a_stolen_session_ends_with_a_password_change,
    a_password_is_proved_again,
    an_invitation_works_once_and_not_for_ever,
    without_the_agreement_no_client_is_stored,
    an_address_has_one_account,
    a_client_joins_the_caseload_of_the_practice_alone,
    an_enrolment_makes_a_practice_known_elsewhere,
    a_forged_or_stale_enrolment_is_refused,
    an_instruction_is_the_controllers_to_give,
    every_rpc_refuses_every_other_role,
    a_record_that_moves_takes_its_sign_in_along,
    an_address_leads_on_where_the_client_wished_so,
    bootstrap_is_for_the_first_accounts,
    nothing_readable_is_stored,
);

fn code<T>(answer: Result<T, Status>) -> (Code, Grpc) {
    match answer {
        Ok(_) => panic!("this had to be refused"),
        Err(status) => (from_status(&status).code(), status.code()),
    }
}

fn refused<T>(answer: Result<T, Status>, expected: Code) {
    let (found, _) = code(answer);
    assert_eq!(found, expected);
}

async fn eu(backend: Backend) -> Bench {
    Bench::new("eu", backend, &[]).await.unwrap()
}

async fn who(bench: &Bench, token: &str) -> Result<domicile_proto::identity::v1::Identity, Status> {
    let answer = bench.signed_in(token).unwrap().who_am_i(WhoAmIRequest {}).await?;
    Ok(answer.into_inner().identity.unwrap())
}

struct Encoded(Vec<u8>);

impl FromRow for Encoded {
    fn from_row(row: &Row) -> Result<Self> {
        row.get("entry").map(Self)
    }
}

/// The audit entries so far, oldest first.
async fn entries(bench: &Bench) -> Vec<Entry> {
    let read = bench.store.read("test.outbox", Scope::System, |tx| {
        let sql = "SELECT entry FROM audit_outbox ORDER BY writer_sequence";
        Box::pin(async move { tx.all::<Encoded>(sql, values![]).await })
    });
    read.await.unwrap().iter().map(|row| Entry::decode(&row.0).unwrap()).collect()
}

async fn last(bench: &Bench) -> Entry {
    entries(bench).await.pop().unwrap()
}

fn account(text: &str) -> [u8; 16] {
    *text.parse::<AccountId>().unwrap().as_bytes()
}

async fn a_person_signs_in_and_out(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, "  Clara.NORD@mail.example ").await.unwrap();
    bench.activate(&client.invitation).await.unwrap();

    let opened = bench.sign_in(CLIENT, PASSWORD).await.unwrap();
    let entry = last(&bench).await;
    assert_eq!((entry.event.name(), entry.role), ("identity.sign_in", Role::Client));
    assert_eq!(entry.actor, Some(account(&client.account_id)), "the entry names who signed in");
    assert_eq!(entry.subject, Some(*client.subject_id.parse::<SubjectId>().unwrap().as_bytes()));

    let me = who(&bench, &opened.token).await.unwrap();
    assert_eq!((me.role.as_str(), me.region.as_str()), ("client", "eu"));
    assert_eq!((&me.account_id, &me.subject_id), (&client.account_id, &client.subject_id));
    assert_eq!(last(&bench).await.event.name(), "identity.who_am_i");
    let admin = who(&bench, &practice.token).await.unwrap();
    assert_eq!((admin.role.as_str(), admin.practice_id), ("practice_admin", practice.id.clone()));

    bench.signed_in(&opened.token).unwrap().sign_out(SignOutRequest {}).await.unwrap();
    assert_eq!(code(who(&bench, &opened.token).await), (Code::Unauthenticated, Grpc::Unauthenticated));
    let entry = last(&bench).await;
    assert_eq!(entry.event.name(), "identity.who_am_i");
    assert!(entry.outcome != Outcome::Ok, "a refused request is in the log too");
    for nonsense in ["", "short", &"A".repeat(43), &"A".repeat(200)] {
        refused(who(&bench, nonsense).await, Code::Unauthenticated);
    }
    who(&bench, &practice.token).await.unwrap();
}

/// P37: failures too are in the log.
async fn a_wrong_password_and_an_unknown_address_look_the_same(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    refused(bench.sign_in(CLIENT, PASSWORD).await, Code::SignInFailed);
    bench.activate(&client.invitation).await.unwrap();

    let wrong = bench.sign_in(CLIENT, OTHER_PASSWORD).await.map(drop).unwrap_err();
    let entry = last(&bench).await;
    assert_eq!((entry.event.name(), entry.role, entry.actor), ("identity.sign_in", Role::Anonymous, None));
    assert_eq!(entry.subject, Some(*client.subject_id.parse::<SubjectId>().unwrap().as_bytes()));
    assert!(entry.outcome != Outcome::Ok);
    let unknown = bench.sign_in("nobody@mail.example", OTHER_PASSWORD).await.map(drop).unwrap_err();
    assert_eq!(last(&bench).await.subject, None);
    assert_eq!((wrong.code(), wrong.message()), (unknown.code(), unknown.message()));
    assert_eq!(wrong.code(), Grpc::Unauthenticated);
    refused(bench.sign_in("not an address", PASSWORD).await, Code::InvalidRequest);
    refused(bench.sign_in(CLIENT, "").await, Code::InvalidRequest);
}

async fn guessing_is_slowed_down_and_the_owner_still_gets_in(backend: Backend) {
    let bench = eu(backend).await;
    bench.bootstrap().await.unwrap();
    let owner = "olu@operator.example";
    for _ in 0..5 {
        refused(bench.sign_in(owner, OTHER_PASSWORD).await, Code::SignInFailed);
    }
    let slowed = bench.sign_in(owner, OTHER_PASSWORD).await.map(drop).unwrap_err();
    assert_eq!(slowed.code(), Grpc::ResourceExhausted);
    assert!(from_status(&slowed).wait().is_some_and(|wait| wait <= MINUTE), "it says when to come back");
    bench.sign_in("cora@operator.example", PASSWORD).await.unwrap();
    let patient = async {
        loop {
            match bench.sign_in(owner, PASSWORD).await {
                Ok(_) => break,
                Err(status) => {
                    let wait = from_status(&status).wait().unwrap();
                    tokio::time::sleep(wait).await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), patient).await.unwrap();
}

/// P49: sessions idle out after 15 minutes and end after 8 hours.
async fn a_session_ends_when_idle_and_in_any_case(backend: Backend) {
    let bench = eu(backend).await;
    let [idle, used] = bench.bootstrap().await.unwrap();
    let quarter = Duration::from_secs(15 * 60);
    bench.clock.advance(quarter - Duration::from_secs(1));
    who(&bench, &used).await.unwrap();
    bench.clock.advance(Duration::from_secs(1));
    refused(who(&bench, &idle).await, Code::Unauthenticated);
    refused(who(&bench, &idle).await, Code::Unauthenticated);
    for _ in 0..46 {
        who(&bench, &used).await.unwrap();
        bench.clock.advance(10 * MINUTE);
    }
    who(&bench, &used).await.unwrap();
    bench.clock.advance(5 * MINUTE);
    refused(who(&bench, &used).await, Code::Unauthenticated);
}

/// P49: on password change the others end, on every replica at once.
async fn a_stolen_session_ends_with_a_password_change(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let client = bench.client(&practice.token, CLIENT).await.unwrap();
    let own = bench.join(&client.invitation, CLIENT).await.unwrap();
    let stolen = bench.sign_in(CLIENT, PASSWORD).await.unwrap().token;
    who(&bench, &stolen).await.unwrap();
    let replica = bench.replica().await.unwrap();
    replica.actor(&stolen).await.unwrap();

    let change = |old: &str, new: &str| ChangePasswordRequest {
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    let mut me = bench.signed_in(&own).unwrap();
    refused(me.change_password(change(OTHER_PASSWORD, "yellow bicycle 1907")).await, Code::SignInFailed);
    refused(me.change_password(change(PASSWORD, "too short")).await, Code::PasswordWeak);
    refused(me.change_password(change(PASSWORD, PASSWORD)).await, Code::PasswordWeak);
    refused(me.change_password(change(PASSWORD, "Clara.Nord@mail.example")).await, Code::PasswordWeak);
    who(&bench, &stolen).await.unwrap();
    me.change_password(change(PASSWORD, OTHER_PASSWORD)).await.unwrap();
    let names: Vec<_> = entries(&bench).await.iter().map(|entry| entry.event.name()).collect();
    assert_eq!(names[names.len() - 2..], ["identity.session_ended", "identity.password_change"]);

    assert_eq!(code(who(&bench, &stolen).await), (Code::Unauthenticated, Grpc::Unauthenticated));
    assert_eq!(replica.actor(&stolen).await.unwrap_err().code(), Code::Unauthenticated);
    replica.actor(&own).await.unwrap();
    who(&bench, &own).await.unwrap();
    refused(bench.sign_in(CLIENT, PASSWORD).await, Code::SignInFailed);
    bench.sign_in(CLIENT, OTHER_PASSWORD).await.unwrap();
    who(&bench, &practice.token).await.unwrap();
}

async fn a_password_is_proved_again(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    bench.clock.advance(10 * MINUTE);
    let mut me = bench.signed_in(&operator).unwrap();
    let prove = |password: &str| ReauthenticateRequest { password: password.to_owned() };
    refused(me.reauthenticate(prove(OTHER_PASSWORD)).await, Code::SignInFailed);
    let until = me.reauthenticate(prove(PASSWORD)).await.unwrap().into_inner().fresh_until_micros;
    let now = domicile_types::Clock::now(&bench.clock);
    assert_eq!(Timestamp::from_micros(until), now.plus(bench.sessions.fresh));
    let actor = bench.identity.actor(&operator).await.unwrap();
    assert_eq!(actor.authenticated_at, Some(now));
    assert_eq!(last(&bench).await.event.name(), "identity.reauthenticate");
}

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

/// A home region and another that knows its statement key.
async fn pair(backend: Backend) -> (Bench, Bench) {
    let nobody = TestSigner::generate().unwrap().public();
    let home = Bench::new("eu", backend, &[("ca", nobody), ("us", nobody)]).await.unwrap();
    let away = Bench::new("ca", backend, &[("eu", home.signer.public()), ("us", nobody)]).await.unwrap();
    (home, away)
}

async fn export(home: &Bench, token: &str, to: &[&str]) -> Result<EnrolmentMessage, Status> {
    let destinations = to.iter().map(|to| (*to).to_owned()).collect();
    let request = GetEnrolmentRequest { practice_id: String::new(), destinations };
    let answer = home.signed_in(token).unwrap().get_enrolment(request).await?;
    Ok(answer.into_inner().enrolment.unwrap())
}

async fn accept(
    away: &Bench,
    token: &str,
    enrolment: EnrolmentMessage,
) -> Result<AcceptEnrolmentResponse, Status> {
    let request = AcceptEnrolmentRequest { enrolment: Some(enrolment) };
    Ok(away.signed_in(token).unwrap().accept_enrolment(request).await?.into_inner())
}

async fn an_enrolment_makes_a_practice_known_elsewhere(backend: Backend) {
    let (home, away) = pair(backend).await;
    let [operator, _] = home.bootstrap().await.unwrap();
    let [other_operator, _] = away.bootstrap().await.unwrap();
    let unsigned = home.unsigned_practice(&operator, "u@unsigned.example").await.unwrap();
    refused(export(&home, &unsigned.token, &["ca"]).await, Code::AgreementMissing);
    let practice = home.practice(&operator, ADMIN).await.unwrap();
    let id: PracticeId = practice.id.parse().unwrap();
    let ca = RegionId::new("ca").unwrap();
    refused(export(&home, &practice.token, &["au"]).await, Code::TransferNotAllowed);
    assert!(!home.identity.practice_instructs(id, &ca).await.unwrap());
    let enrolment = export(&home, &practice.token, &["ca"]).await.unwrap();
    assert!(home.identity.practice_instructs(id, &ca).await.unwrap());
    assert!(!away.identity.practice_known(id).await.unwrap());

    let accepted = accept(&away, &other_operator, enrolment.clone()).await.unwrap();
    assert_eq!(last(&away).await.event.name(), "identity.enrolment_accept");
    assert!(away.identity.practice_known(id).await.unwrap());
    assert_eq!(accepted.practice_id, practice.id);
    let [invitation] = &accepted.invitations[..] else { panic!("one practitioner") };
    assert_eq!(invitation.account_id, practice.admin, "the same id as at home");

    let again = accept(&away, &other_operator, enrolment.clone()).await.unwrap();
    let [renewed] = &again.invitations[..] else { panic!("one practitioner") };
    refused(away.activate(&invitation.code).await, Code::InvitationInvalid);
    let token = away.join(&renewed.code, ADMIN).await.unwrap();
    let me = who(&away, &token).await.unwrap();
    assert_eq!((me.role.as_str(), &me.practice_id), ("practitioner", &practice.id));
    assert!(accept(&away, &other_operator, enrolment).await.unwrap().invitations.is_empty());
    refused(away.client(&token, CLIENT).await, Code::AgreementMissing);
    refused(
        away.signed_in(&other_operator)
            .unwrap()
            .get_enrolment(GetEnrolmentRequest { practice_id: practice.id.clone(), destinations: Vec::new() })
            .await,
        Code::NotFound,
    );

    home.clock.advance(MINUTE);
    let mut admin = home.signed_in(&practice.token).unwrap();
    let colleague =
        CreatePractitionerRequest { email: "pia@praxis.example".to_owned(), name: "Pia".to_owned() };
    let pia = admin.create_practitioner(colleague).await.unwrap().into_inner();
    let newer = export(&home, &practice.token, &[]).await.unwrap();
    let accepted = accept(&away, &other_operator, newer).await.unwrap();
    let [invitation] = &accepted.invitations[..] else { panic!("the new practitioner alone") };
    assert_eq!(invitation.account_id, pia.account_id);
}

fn signed(signer: &TestSigner, enrolment: &Enrolment) -> EnrolmentMessage {
    let SignedEnrolment { content, signature } = SignedEnrolment::sign(signer, enrolment);
    EnrolmentMessage { content, signature: signature.to_vec() }
}

async fn a_forged_or_stale_enrolment_is_refused(backend: Backend) {
    let (home, away) = pair(backend).await;
    let [operator, _] = home.bootstrap().await.unwrap();
    let [other_operator, _] = away.bootstrap().await.unwrap();
    let practice = home.practice(&operator, ADMIN).await.unwrap();
    let genuine = export(&home, &practice.token, &["ca", "us"]).await.unwrap();
    let content = Enrolment::decode(&genuine.content).unwrap();
    let refuse =
        async |enrolment, expected| refused(accept(&away, &other_operator, enrolment).await, expected);

    let mut flipped = genuine.clone();
    flipped.signature[7] ^= 1;
    refuse(flipped, Code::StatementInvalid).await;
    let mut altered = genuine.clone();
    altered.content = Enrolment { name: "Somebody else".to_owned(), ..content.clone() }.encode();
    refuse(altered, Code::StatementInvalid).await;
    let forger = TestSigner::generate().unwrap();
    refuse(signed(&forger, &content), Code::StatementInvalid).await;
    let unknown = Enrolment { home: RegionId::new("zz").unwrap(), ..content.clone() };
    refuse(signed(&home.signer, &unknown), Code::StatementInvalid).await;
    let another = Enrolment { home: RegionId::new("us").unwrap(), ..content.clone() };
    refuse(signed(&home.signer, &another), Code::StatementInvalid).await;
    let not_here = Enrolment { destinations: vec![RegionId::new("us").unwrap()], ..content.clone() };
    refuse(signed(&home.signer, &not_here), Code::TransferNotAllowed).await;
    refuse(EnrolmentMessage { content: b"garbage".to_vec(), ..genuine.clone() }, Code::StatementInvalid)
        .await;
    refuse(EnrolmentMessage { signature: vec![1; 3], ..genuine.clone() }, Code::StatementInvalid).await;
    assert!(!away.identity.practice_known(content.practice).await.unwrap());

    accept(&away, &other_operator, genuine.clone()).await.unwrap();
    let older = Enrolment { at: content.at.minus(MINUTE), ..content.clone() };
    refuse(signed(&home.signer, &older), Code::Conflict).await;
    // A home region may not claim people or practices that belong to others here.
    let local = away.practice(&other_operator, "lou@local.example").await.unwrap();
    let claimed = Practitioner {
        account: local.admin.parse().unwrap(),
        name: "Lou".to_owned(),
        email: "new@local.example".to_owned(),
    };
    let later = content.at.plus(MINUTE);
    let claim = Enrolment { practitioners: vec![claimed], at: later, ..content.clone() };
    refuse(signed(&home.signer, &claim), Code::Conflict).await;
    let practice = Enrolment { practice: local.id.parse().unwrap(), at: later, ..content.clone() };
    refuse(signed(&home.signer, &practice), Code::Conflict).await;
    let address = Practitioner {
        account: AccountId::generate(&Ctx::system()),
        name: "Lou".to_owned(),
        email: "lou@local.example".to_owned(),
    };
    let address = Enrolment { practitioners: vec![address], at: later, ..content.clone() };
    refuse(signed(&home.signer, &address), Code::AccountExists).await;
    who(&away, &local.token).await.unwrap();

    // Whom the practice no longer names, is closed.
    let guest = accept(&away, &other_operator, genuine).await.unwrap().invitations.remove(0);
    let token = away.join(&guest.code, ADMIN).await.unwrap();
    let empty = Enrolment { practitioners: Vec::new(), at: later, ..content };
    accept(&away, &other_operator, signed(&home.signer, &empty)).await.unwrap();
    refused(who(&away, &token).await, Code::Unauthenticated);
    refused(away.sign_in(ADMIN, PASSWORD).await, Code::SignInFailed);
}

/// P3: whose instruction it is depends on who the controller is.
async fn an_instruction_is_the_controllers_to_give(backend: Backend) {
    let (home, _) = pair(backend).await;
    let [operator, _] = home.bootstrap().await.unwrap();
    let practice = home.practice(&operator, ADMIN).await.unwrap();
    let other = home.practice(&operator, "otto@elsewhere.example").await.unwrap();
    let ask = |practice: &str, to: &[&str]| GetEnrolmentRequest {
        practice_id: practice.to_owned(),
        destinations: to.iter().map(|to| (*to).to_owned()).collect(),
    };
    let mut op = home.signed_in(&operator).unwrap();
    refused(op.get_enrolment(ask(&practice.id, &["ca"])).await, Code::Forbidden);
    refused(op.get_enrolment(ask("", &["ca"])).await, Code::InvalidRequest);
    let mut admin = home.signed_in(&practice.token).unwrap();
    refused(admin.get_enrolment(ask(&other.id, &["ca"])).await, Code::NotFound);
    refused(admin.get_enrolment(ask("", &["Canada"])).await, Code::InvalidRequest);
    admin.get_enrolment(ask(&practice.id, &["ca"])).await.unwrap();
    let repeated =
        op.get_enrolment(ask(&practice.id, &["ca"])).await.unwrap().into_inner().enrolment.unwrap();
    let content = Enrolment::decode(&repeated.content).unwrap();
    assert_eq!(content.destinations, [RegionId::new("ca").unwrap()]);
    assert_eq!((content.name.as_str(), content.practitioners.len()), ("Praxis am Hafen", 1));
    refused(op.get_enrolment(ask(&practice.id, &["ca", "us"])).await, Code::Forbidden);
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

async fn set_standing(bench: &Bench, subject: SubjectId, standing: Standing) {
    let moved = bench.store.write_unaudited("test.standing", Scope::Subject(subject), move |tx| {
        Box::pin(async move {
            let mut home = residency::lock(tx, subject).await?.unwrap();
            home.standing = standing;
            home.epoch += 1;
            home.moved_to = RegionId::new("ca").ok();
            residency::set(tx, &home).await
        })
    });
    moved.await.unwrap();
}

async fn a_record_that_moves_takes_its_sign_in_along(backend: Backend) {
    let bench = eu(backend).await;
    let [operator, _] = bench.bootstrap().await.unwrap();
    let practice = bench.practice(&operator, ADMIN).await.unwrap();
    let created = bench.client(&practice.token, CLIENT).await.unwrap();
    let subject: SubjectId = created.subject_id.parse().unwrap();
    let client = bench.join(&created.invitation, CLIENT).await.unwrap();
    let change = |old: &str, new: &str| ChangePasswordRequest {
        old_password: old.to_owned(),
        new_password: new.to_owned(),
    };
    let mut me: IdentityClient = bench.signed_in(&client).unwrap();
    set_standing(&bench, subject, Standing::Frozen).await;
    me.change_password(change(PASSWORD, OTHER_PASSWORD)).await.unwrap();
    set_standing(&bench, subject, Standing::Released).await;
    // The sign-in has been sealed into the release: a later change here would be lost.
    refused(me.change_password(change(OTHER_PASSWORD, PASSWORD)).await, Code::RecordMoved);
    bench.sign_in(CLIENT, OTHER_PASSWORD).await.unwrap();

    let hash = bench.identity.actor(&client).await.unwrap().session.unwrap();
    set_standing(&bench, subject, Standing::Departed).await;
    let shredded = bench.store.write_unaudited("test.shred", Scope::Subject(subject), move |tx| {
        Box::pin(async move {
            residency::entitle(tx, subject, &[Entitled::Session(hash)]).await?;
            tx.execute("DELETE FROM session WHERE subject_id = $1", values![subject]).await?;
            tx.execute("DELETE FROM account WHERE subject_id = $1", values![subject]).await.map(drop)
        })
    });
    shredded.await.unwrap();
    let moved = from_status(&who(&bench, &client).await.map(drop).unwrap_err());
    assert_eq!(moved.code(), Code::RecordMoved);
    assert_eq!(moved.moved(), Some(&(RegionId::new("ca").unwrap(), 4)));
    refused(who(&bench, &"B".repeat(43)).await, Code::Unauthenticated);
    refused(bench.sign_in(CLIENT, OTHER_PASSWORD).await, Code::SignInFailed);
}

/// The client may leave word at the source of where they went.
async fn an_address_leads_on_where_the_client_wished_so(backend: Backend) {
    let bench = eu(backend).await;
    let key = bench.keyring.region_key(RegionKey::BlindIndex).await.unwrap();
    let index = domicile_crypto::blind::index(&key, "email", CLIENT);
    let until = domicile_types::Clock::now(&bench.clock).plus(MINUTE);
    let kept = bench.store.write_unaudited("test.locator", Scope::System, move |tx| {
        let sql = "INSERT INTO forwarding_locator (email_index, region, expires_at) VALUES ($1, 'ca', $2)";
        Box::pin(async move { tx.execute(sql, values![index, until]).await })
    });
    kept.await.unwrap();
    let moved =
        from_status(&bench.sign_in(" Clara.Nord@mail.example", PASSWORD).await.map(drop).unwrap_err());
    assert_eq!(moved.code(), Code::RecordMoved);
    assert_eq!(moved.moved().map(|(region, _)| region.as_str()), Some("ca"));
    refused(bench.sign_in("nobody@mail.example", PASSWORD).await, Code::SignInFailed);
    bench.clock.advance(MINUTE);
    refused(bench.sign_in(CLIENT, PASSWORD).await, Code::SignInFailed);
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

/// The key a test pins is the key a region signs with.
#[test]
fn a_signer_is_known_by_its_public_key() {
    let signer = TestSigner::generate().unwrap();
    let key: PublicKey = signer.public();
    key.verify("test", b"message", &signer.sign(b"message")).unwrap();
}
