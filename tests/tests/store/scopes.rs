//! Row-level security: even a query that forgets its WHERE sees only its scope's rows (P9, P10, P13).

use domicile_store::{Backend, Scope, values};
use domicile_types::{AccountId, Code, GrantId, ItemId, SubjectId, Timestamp, TransferId, Visibility};

use crate::Bench;

async fn postgres() -> Bench {
    Bench::new(Backend::Postgres).await
}

/// Two clients, one of them in the practitioner's caseload.
struct Clinic {
    bench: Bench,
    practitioner: AccountId,
    mine: SubjectId,
    other: SubjectId,
}

impl Clinic {
    async fn new() -> Self {
        let bench = postgres().await;
        let (mine, other) = (bench.subject(), bench.subject());
        let practitioner = AccountId::generate(&bench.ctx);
        for subject in [mine, other] {
            bench.make_residency(subject).await;
        }
        bench.make_care(mine, practitioner).await;
        Self { bench, practitioner, mine, other }
    }

    const fn caseload(&self) -> Scope {
        Scope::Caseload { practitioner: self.practitioner }
    }

    async fn grant(&self, item: Option<ItemId>, expires: Timestamp) -> GrantId {
        let (subject, practitioner) = (self.other, self.practitioner);
        let grant = GrantId::generate(&self.bench.ctx);
        let work = self.bench.store.write_unaudited("test.grant", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO access_grant (grant_id, subject_id, practitioner_id, item_id, given_by, \
                           given_at, expires_at) VALUES ($1, $2, $3, $4, $3, $5, $6)";
                tx.execute(sql, values![grant, subject, practitioner, item, tx.now(), expires]).await
            })
        });
        work.await.unwrap();
        grant
    }

    fn soon(&self) -> Timestamp {
        self.bench.ctx.now().plus(std::time::Duration::from_secs(600))
    }
}

#[tokio::test]
async fn a_client_sees_their_own_record_alone() {
    let clinic = Clinic::new().await;
    let author = clinic.practitioner;
    for subject in [clinic.mine, clinic.other, clinic.other] {
        clinic.bench.make_item(subject, author, Visibility::Shared).await;
    }
    let bench = &clinic.bench;
    assert_eq!(bench.count(Scope::Subject(clinic.mine), "item").await, 1);
    assert_eq!(bench.count(Scope::Subject(clinic.other), "item").await, 2);
    assert_eq!(bench.count(Scope::Subject(bench.subject()), "item").await, 0);
    let whole = Scope::Move { subject: Some(clinic.other) };
    assert_eq!(bench.count(whole, "item").await, 2);
    for scope in [Scope::System, Scope::Transfers, Scope::Move { subject: None }, Scope::Lookup([0; 32])] {
        for table in ["item", "residency", "care_relationship", "consent", "object", "legal_hold"] {
            assert_eq!(bench.count(scope, table).await, 0, "{scope:?} {table}");
        }
    }
}

/// A forgotten WHERE in a change touches nobody else's rows; a row for somebody else cannot be written.
#[tokio::test]
async fn a_change_stays_in_its_scope() {
    let clinic = Clinic::new().await;
    let bench = &clinic.bench;
    let (mine, other) = (Scope::Subject(clinic.mine), clinic.other);
    assert_eq!(bench.run(mine, "UPDATE residency SET revision = revision + 1").await.unwrap(), 1);
    assert_eq!(bench.run(Scope::System, "UPDATE residency SET revision = 99").await.unwrap(), 0);
    assert_eq!(bench.run(clinic.caseload(), "DELETE FROM item").await.unwrap(), 0);
    let forged = bench.store.write_unaudited("test.forged", mine, move |tx| {
        Box::pin(async move {
            let sql = "UPDATE residency SET subject_id = $1";
            tx.execute(sql, values![other]).await
        })
    });
    assert_eq!(forged.await.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_practitioner_sees_their_caseload_alone() {
    let clinic = Clinic::new().await;
    let (bench, caseload) = (&clinic.bench, clinic.caseload());
    for visibility in [Visibility::Shared, Visibility::Practitioner, Visibility::ClientPrivate] {
        bench.make_item(clinic.mine, bench_author(bench), visibility).await;
        bench.make_item(clinic.other, bench_author(bench), visibility).await;
    }
    // Psychotherapy notes are their author's alone.
    bench.make_item(clinic.mine, clinic.practitioner, Visibility::Psychotherapy).await;
    bench.make_item(clinic.mine, bench_author(bench), Visibility::Psychotherapy).await;
    assert_eq!(bench.count(caseload, "item").await, 3);
    assert_eq!(bench.count(caseload, "residency").await, 1);
    assert_eq!(bench.count(caseload, "consent").await, 0);
    assert_eq!(bench.count(caseload, "account").await, 0);
    assert_eq!(bench.run(caseload, "UPDATE residency SET revision = revision + 1").await.unwrap(), 1);
    let scope = Scope::Subject(clinic.mine);
    bench.run(scope, "UPDATE care_relationship SET ended_at = 1").await.unwrap();
    assert_eq!(bench.count(caseload, "item").await, 0);
    assert_eq!(bench.count(caseload, "residency").await, 0);
}

fn bench_author(bench: &Bench) -> AccountId {
    AccountId::generate(&bench.ctx)
}

/// Grants: the whole record or one item, until they expire or are revoked; never what is the client's alone.
#[tokio::test]
async fn a_grant_shows_what_it_names_while_it_lasts() {
    let clinic = Clinic::new().await;
    let (bench, caseload) = (&clinic.bench, clinic.caseload());
    let author = bench_author(bench);
    let one = bench.make_item(clinic.other, author, Visibility::Practitioner).await;
    bench.make_item(clinic.other, author, Visibility::Shared).await;
    let private = bench.make_item(clinic.other, author, Visibility::ClientPrivate).await;
    assert_eq!(bench.count(caseload, "item").await, 0);
    clinic.grant(None, bench.ctx.now()).await;
    assert_eq!(bench.count(caseload, "item").await, 0, "expired");
    clinic.grant(Some(one), clinic.soon()).await;
    clinic.grant(Some(private), clinic.soon()).await;
    assert_eq!(bench.count(caseload, "item").await, 1, "one item");
    clinic.grant(None, clinic.soon()).await;
    assert_eq!(bench.count(caseload, "item").await, 2, "all but what is private");
    bench.run(Scope::Subject(clinic.other), "UPDATE access_grant SET revoked_at = 1").await.unwrap();
    assert_eq!(bench.count(caseload, "item").await, 0);
}

/// What travels and what is signed is for the steps of a transfer alone.
#[tokio::test]
async fn transfers_see_transfers_alone() {
    let clinic = Clinic::new().await;
    let bench = &clinic.bench;
    let transfer = TransferId::generate(&bench.ctx);
    let work = bench.store.write_unaudited("test.tombstone", Scope::Transfers, move |tx| {
        Box::pin(async move {
            let sql = "INSERT INTO transfer_tombstone (transfer_id, attempt, at) VALUES ($1, 1, 0)";
            tx.execute(sql, values![transfer]).await?;
            let sql = "INSERT INTO sent_row (transfer_id, item_id, version, revision, digest, bytes) \
                       VALUES ($1, $1, 1, 1, $2, 1)";
            tx.execute(sql, values![transfer, [1_u8; 32]]).await
        })
    });
    work.await.unwrap();
    let mine = Scope::Subject(clinic.mine);
    for table in ["transfer_tombstone", "sent_row"] {
        for scope in
            [Scope::Transfers, Scope::Move { subject: None }, Scope::Move { subject: Some(clinic.mine) }]
        {
            assert_eq!(bench.count(scope, table).await, 1, "{scope:?} {table}");
        }
        for scope in [mine, clinic.caseload(), Scope::Account(clinic.practitioner), Scope::System] {
            assert_eq!(bench.count(scope, table).await, 0, "{scope:?} {table}");
        }
    }
}

/// A lookup finds the one account, and changes nothing.
#[tokio::test]
async fn a_lookup_finds_one_account() {
    let bench = postgres().await;
    for n in 1..=3_u8 {
        let account = AccountId::generate(&bench.ctx);
        let work = bench.store.write_unaudited("test.account", Scope::Account(account), move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO account (account_id, role, email_index, state, created_at, changed_at) \
                           VALUES ($1, 'practitioner', $2, 'active', $3, $3)";
                tx.execute(sql, values![account, [n; 32], tx.now()]).await
            })
        });
        work.await.unwrap();
        assert_eq!(bench.count(Scope::Account(account), "account").await, 1);
    }
    assert_eq!(bench.count(Scope::Lookup([2; 32]), "account").await, 1);
    assert_eq!(bench.count(Scope::Lookup([9; 32]), "account").await, 0);
    assert_eq!(bench.run(Scope::Lookup([2; 32]), "UPDATE account SET state = 'closed'").await.unwrap(), 0);
    assert_eq!(bench.count(Scope::System, "account").await, 3, "staff accounts");
}

/// The scope ends with its transaction: the next one on the same connection starts with nothing.
#[tokio::test]
async fn a_scope_does_not_outlive_its_transaction() {
    let mut region = domicile_tests::stores::Region::fresh("eu", Backend::Postgres).await.unwrap();
    region.settings.max_connections = 1;
    let ctx = domicile_types::Ctx::system();
    let bench = Bench { store: region.store(&ctx).await.unwrap(), region, ctx };
    let subject = bench.subject();
    bench.make_residency(subject).await;
    for _ in 0..3 {
        assert_eq!(bench.count(Scope::Subject(subject), "residency").await, 1);
        assert_eq!(bench.count(Scope::System, "residency").await, 0);
    }
}

/// Whoever holds the service's password but not a scope sees nothing; nor does the owner of the tables.
#[tokio::test]
async fn a_stolen_connection_without_a_scope_sees_nothing() {
    let clinic = Clinic::new().await;
    clinic.bench.make_item(clinic.mine, clinic.practitioner, Visibility::Shared).await;
    let database = clinic.bench.region.postgres().unwrap();
    for role in ["domicile_app", "domicile_owner"] {
        for table in ["item", "residency", "account", "session", "consent", "transfer", "staged_row"] {
            assert_eq!(
                database.sql(role, &format!("SELECT count(*) FROM {table}")).unwrap(),
                "0",
                "{role} {table}"
            );
        }
    }
}
