//! The suite that holds the stores of transfers to one another: the same programs of operations leave the
//! same words on SQLite, on PostgreSQL and in memory, where the simulation runs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domicile_evidence::keys::{PublicKey, Signer as _};
use domicile_simulation::conformance::{
    HomeLine, ItemLine, MemorySite, ObjectLine, Pair, Site, SuiteClock, SuiteSigner, entry_line, memory_pair,
    options, program, straight_move, withdrawn_move,
};
use domicile_simulation::memory::{NewItem, NewObject, NewRecord};
use domicile_store::queries::access;
use domicile_store::queries::item::{self, Version};
use domicile_store::queries::object::{self, Object, ObjectState};
use domicile_store::queries::residency::{self, RegionChoice, Standing};
use domicile_store::transfers::{Options, SqlTransfers};
use domicile_store::{Backend, Backups, OnConflict, Scope, Store, Tx, values};
use domicile_tests::stores::Region;
use domicile_types::{AccountId, Code, Error, ItemHeader, ObjectId, Result, SubjectId};

/// Random programs that are compared, and the operations of each.
const PROGRAMS: u64 = 16;
const LENGTH: u32 = 130;

/// One region on SQL.
struct SqlSite {
    transfers: SqlTransfers,
    store: Store,
    key: PublicKey,
    _region: Region,
}

impl SqlSite {
    async fn new(name: &str, backend: Backend, clock: &SuiteClock, seed: u64) -> Self {
        let ctx = clock.ctx(seed + 100);
        let region = Region::fresh(name, backend).await.unwrap();
        let store = region.store(&ctx).await.unwrap();
        let keys = region.keys(&ctx).await.unwrap();
        let signer = Arc::new(SuiteSigner::new(seed).unwrap());
        let suite = options();
        let options = Options {
            offer_open: suite.offer_open,
            lease: suite.lease,
            stuck_after: suite.stuck_after,
            locator: suite.locator,
        };
        let backups = Backups::new(&store, &keys, &region.settings, None);
        let transfers = SqlTransfers::new(store.clone(), Arc::clone(&signer) as _, options, backups);
        Self { transfers, store, key: signer.public(), _region: region }
    }
}

async fn pair(backend: Backend) -> Pair<SqlSite> {
    let clock = SuiteClock::new();
    Pair {
        eu: SqlSite::new("eu", backend, &clock, 1).await,
        us: SqlSite::new("us", backend, &clock, 2).await,
        clock,
    }
}

fn whose(subject: SubjectId) -> Scope {
    Scope::Move { subject: Some(subject) }
}

/// Writes a version as the records service does: its revision from the row that a freeze changes.
async fn write(tx: &Tx, new: NewItem) -> Result<()> {
    let NewItem { mut header, sealed } = new;
    let subject = header.subject_id;
    header.revision = residency::write_begin(tx, subject, 1).await?.revision;
    let newest = "SELECT COALESCE(MAX(version), 0) AS value FROM item WHERE item_id = $1";
    let newest: u32 = tx.scalar(newest, values![header.item_id]).await?.unwrap_or(0);
    if newest + 1 != header.version {
        return Err(Error::new(Code::VersionConflict));
    }
    if newest > 0 {
        item::supersede(tx, subject, header.item_id, newest).await?;
    }
    let version = Version { header, current: true, sealed: Some(sealed) };
    item::insert_many(tx, vec![version], OnConflict::Fail).await.map(drop)
}

#[async_trait]
impl Site for SqlSite {
    type Store = SqlTransfers;

    fn store(&self) -> &SqlTransfers {
        &self.transfers
    }

    fn key(&self) -> PublicKey {
        self.key
    }

    async fn open_record(&self, new: NewRecord) -> Result<()> {
        let open = self.store.write_unaudited("test.open", Scope::Subject(new.subject), move |tx| {
            let new = new.clone();
            Box::pin(async move {
                residency::open(tx, new.subject, RegionChoice::Client, tx.now()).await?;
                let sql = "INSERT INTO account (account_id, role, subject_id, email_index, email_sealed, state, \
                           created_at, changed_at) VALUES ($1, 'client', $2, $3, $4, 'active', $5, $5)";
                let values = values![new.account, new.subject, new.email_index, new.email_sealed, tx.now()];
                tx.execute(sql, values).await.map(drop)
            })
        });
        open.await
    }

    async fn write_item(&self, new: NewItem) -> Result<()> {
        let scope = Scope::Subject(new.header.subject_id);
        let written = self.store.write_unaudited("test.write", scope, move |tx| {
            let new = new.clone();
            Box::pin(write(tx, new))
        });
        written.await
    }

    async fn begin_object(&self, new: NewObject) -> Result<()> {
        let begun = self.store.write_unaudited("test.begin", Scope::Subject(new.subject), move |tx| {
            Box::pin(async move {
                residency::write_check(tx, new.subject, None).await?;
                let row = Object {
                    object: new.object,
                    subject: new.subject,
                    item: None,
                    practice: None,
                    length: new.length,
                    chunks: new.chunks,
                    key_version: new.key_version,
                    state: ObjectState::Pending,
                    travelling: false,
                    transfer: None,
                    copy: None,
                    registered_at: tx.now(),
                };
                object::insert_many(tx, vec![row]).await
            })
        });
        begun.await
    }

    async fn finish_object(&self, id: ObjectId, new: NewItem) -> Result<()> {
        let subject = new.header.subject_id;
        let finished = self.store.write_unaudited("test.finish", Scope::Subject(subject), move |tx| {
            let new = new.clone();
            Box::pin(async move {
                let item = new.header.item_id;
                write(tx, new).await?;
                match object::complete(tx, subject, id, item).await? {
                    true => Ok(()),
                    false => Err(Error::new(Code::NotFound)),
                }
            })
        });
        finished.await
    }

    async fn hold(&self, subject: SubjectId, by: AccountId, stands: bool) -> Result<()> {
        let changed = self.store.write_unaudited("test.hold", Scope::Subject(subject), move |tx| {
            Box::pin(async move {
                residency::control_touch(tx, subject).await?;
                match stands {
                    true => access::hold_place(tx, subject, "suite", by, tx.now()).await.map(drop),
                    false => access::hold_release(tx, subject, "suite", tx.now()).await.map(drop),
                }
            })
        });
        changed.await
    }

    async fn picture(&self, subject: SubjectId) -> Result<Vec<String>> {
        let found = self.store.read("test.picture", whose(subject), move |tx| {
            Box::pin(async move {
                let home = residency::get(tx, subject).await?;
                let items = item::feed_range(tx, subject, 0, u64::from(u32::MAX)).await?;
                let mut objects = object::list(tx, subject, ObjectState::Complete).await?;
                objects.extend(object::list(tx, subject, ObjectState::Pending).await?);
                Ok((home, items, objects))
            })
        });
        let (home, mut items, mut objects) = found.await?;
        items.sort_by_key(|row| (row.header.item_id, row.header.version));
        objects.sort_by_key(|row| row.object);
        let home = home.map(|home| {
            let standing = standing(home.standing);
            let counters = (home.revision, home.control_revision, home.attempt, home.freeze);
            let moved_to = home.moved_to.as_ref();
            format!("{:?}", HomeLine { epoch: home.epoch, standing, moved_to, counters })
        });
        let items = items.iter().map(|row| {
            let (header, current, sealed): (&ItemHeader, _, _) =
                (&row.header, row.current, row.sealed.as_deref());
            format!("{:?}", ItemLine { header, current, sealed })
        });
        let objects = objects.iter().map(|row| {
            let line = ObjectLine {
                object: row.object,
                item: row.item,
                complete_travelling: (row.state == ObjectState::Complete, row.travelling),
                key_version: row.key_version,
                transfer: row.transfer,
                copy: row.copy,
            };
            format!("{line:?}")
        });
        Ok(home.into_iter().chain(items).chain(objects).collect())
    }

    async fn log(&self) -> Result<Vec<String>> {
        Ok(crate::outbox(&self.store).await.iter().map(entry_line).collect())
    }
}

const fn standing(standing: Standing) -> &'static str {
    standing.as_str()
}

/// The first line in which two stores differ, with what led there.
fn same(what: &str, on_sql: &[String], in_memory: &[String]) {
    let differs = on_sql.iter().zip(in_memory).position(|(one, other)| one != other);
    if let Some(at) = differs.or((on_sql.len() != in_memory.len()).then(|| on_sql.len().min(in_memory.len())))
    {
        let before: Vec<_> = in_memory.iter().take(at).rev().take(6).collect();
        panic!(
            "{what}, line {at}:\nsql    {:?}\nmemory {:?}\nafter {before:#?}",
            on_sql.get(at),
            in_memory.get(at)
        );
    }
}

async fn the_suite(backend: Backend) {
    let model = || memory_pair().unwrap();
    let _: &Pair<MemorySite> = &model();
    same(
        "a straight move",
        &straight_move(&pair(backend).await).await.unwrap(),
        &straight_move(&model()).await.unwrap(),
    );
    same(
        "a withdrawn move",
        &withdrawn_move(&pair(backend).await).await.unwrap(),
        &withdrawn_move(&model()).await.unwrap(),
    );
    let began = tokio::time::Instant::now();
    for seed in 0..PROGRAMS {
        let on_sql = program(&pair(backend).await, seed, LENGTH).await.unwrap();
        same(&format!("program {seed}"), &on_sql, &program(&model(), seed, LENGTH).await.unwrap());
        // The databases of a program are dropped with it; a slow machine compares fewer, never none.
        if began.elapsed() > Duration::from_secs(25) && seed >= 5 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_and_memory_leave_the_same_words() {
    the_suite(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_memory_leave_the_same_words() {
    the_suite(Backend::Postgres).await;
}
