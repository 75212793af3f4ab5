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

mod accounts;
mod enrolments;
mod sessions;

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
