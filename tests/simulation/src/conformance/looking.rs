//! Everything the store can be asked, written down.

use domicile_transfer_protocol::TransferStore;
use domicile_transfer_protocol::rows::{
    ControlRows, Feed, FeedRow, SourceObject, StagedObject, TravellingRow,
};
use domicile_transfer_protocol::store::{Listing, Row};
use domicile_types::{Result, SubjectId, TransferId};

use super::Site;
use super::script::{At, Script};

impl<S: Site> Script<'_, S> {
    /// What both regions hold.
    pub(super) async fn picture(&mut self) -> Result<()> {
        for at in At::BOTH {
            for (subject, _) in self.subjects.clone() {
                for line in self.site(at).picture(subject).await? {
                    self.say(format!("{} {line}", at.name()));
                }
            }
            for line in self.site(at).log().await? {
                self.say(format!("{} {line}", at.name()));
            }
        }
        Ok(())
    }

    /// Asks one region everything about a transfer and its record.
    pub(super) async fn look(&mut self, at: At, id: TransferId, subject: SubjectId) {
        self.look_at_transfer(at, id).await;
        self.look_at_source(at, id, subject).await;
        self.look_at_destination(at, id).await;
    }

    async fn look_at_transfer(&mut self, at: At, id: TransferId) {
        let store = self.store(at);
        let found = store.find(id).await.map(|row| row.as_ref().map(text));
        self.note("find", &found);
        let open = store.open().await.map(|rows| rows.iter().map(text).collect::<Vec<_>>());
        self.note("open", &open);
        for resting in [true, false] {
            let listed = store.list(Listing::Everything, resting).await;
            self.note("list", &listed.map(|rows| sorted(rows.iter().map(text).collect())));
        }
        self.note("held", &store.work_held(id).await);
        self.note("due", &store.due(self.ctx.now()).await);
        for origin in At::BOTH {
            let Ok(region) = origin.region() else { continue };
            let lane = store.statements(id, region, 1).await;
            self.note(
                "lane",
                &lane.map(|lane| lane.iter().map(|s| hex::encode(&s.statement)).collect::<Vec<_>>()),
            );
        }
        self.note("checkpoints", &store.checkpoints(id).await);
        self.note("offer", &store.offer(id).await);
        self.note("key release", &store.key_release(id).await);
    }

    async fn look_at_source(&mut self, at: At, id: TransferId, subject: SubjectId) {
        let store = self.store(at);
        self.note("revision", &store.revision(subject).await);
        self.note("epoch", &store.epoch(subject).await);
        self.note("totals", &store.totals(subject).await);
        let after = self.rng.below(6);
        let few = u32::try_from(1 + self.rng.below(5)).unwrap_or(1);
        self.note("feed", &store.feed(subject, after, few, 1 << 20).await.map(|feed| feed_text(&feed)));
        self.note("feed of bytes", &store.feed(subject, 0, 500, 60).await.map(|feed| feed_text(&feed)));
        let named: Vec<_> = self.items.iter().filter(|i| i.0 == subject).map(|i| (i.1, i.2)).collect();
        let found = store.feed_only(subject, named).await;
        self.note("named", &found.map(|rows| sorted(rows.iter().map(row_text).collect())));
        self.note("unsent", &store.unsent(id).await);
        let manifest = store.source_manifest(id).await.and_then(|mut manifest| manifest.root());
        self.note("manifest", &manifest);
        self.note(
            "sent",
            &store.sent_rows(id).await.map(|rows| {
                let mut rows = rows;
                rows.sort_unstable();
                rows
            }),
        );
        self.note("progress", &store.progress(id).await);
        self.note("control rows", &store.control_rows(subject).await.map(|rows| control_text(&rows)));
        let sealed = store.account_sealed(subject).await;
        self.note("account", &sealed.map(|account| account.map(|a| (a.account, a.email, a.name))));
        self.note("consents", &store.consents(subject).await);
        self.note("remains", &store.remains(subject).await);
        for (_, object) in self.objects.clone() {
            let found: Result<Option<SourceObject>> = store.source_object(subject, object).await;
            self.note("object", &found);
        }
    }

    async fn look_at_destination(&mut self, at: At, id: TransferId) {
        let store = self.store(at);
        self.note("missing", &store.missing_objects(id).await);
        let staged = store.staged_objects(id).await;
        self.note("staged objects", &staged.map(|rows| rows.iter().map(object_text).collect::<Vec<_>>()));
        let manifest = store.staged_manifest(id).await;
        self.note("staged", &manifest.and_then(|(mut rows, totals)| Ok((rows.root()?, totals))));
        self.note("collisions", &store.collisions(id).await);
        let pages = store.staged_pages(id).await;
        self.note(
            "pages",
            &pages.map(|pages| sorted(pages.iter().map(|page| format!("{page:?}")).collect())),
        );
        let headers = store.staged_headers(id).await;
        let header = |row: &domicile_transfer_protocol::rows::StagedRow| {
            format!(
                "{} {} {} {} {}",
                row.item,
                row.version,
                row.revision,
                row.position,
                row.sealed_payload.len()
            )
        };
        self.note("headers", &headers.map(|rows| sorted(rows.iter().map(header).collect())));
        let row = |row: &TravellingRow| format!("{:?} {}", row.header, row.staged.position);
        let first =
            store.staged_pages(id).await.ok().and_then(|pages| pages.iter().map(|page| page.page).min());
        for after in [None, first] {
            let travelling = store.travelling(id, after, 3).await;
            self.note("travelling", &travelling.map(|rows| rows.iter().map(row).collect::<Vec<_>>()));
        }
        let objects = store.travelling_objects(id).await;
        let pair =
            |(source, staged): &(SourceObject, StagedObject)| format!("{source:?} {}", object_text(staged));
        self.note("travelling objects", &objects.map(|rows| rows.iter().map(pair).collect::<Vec<_>>()));
        self.note("any travelling", &store.any_travelling(id).await);
    }
}

/// A transfer's row, whole.
pub(super) fn text(row: &Row) -> String {
    let text = match row {
        Row::Source(row) => serde_json::to_string(row),
        Row::Destination(row) => serde_json::to_string(row),
    };
    text.unwrap_or_default()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

fn row_text(row: &FeedRow) -> String {
    format!(
        "{} {} {} {}",
        row.header.item_id,
        row.header.version,
        row.header.revision,
        hex::encode(&row.sealed)
    )
}

fn feed_text(feed: &Feed) -> String {
    let rows: Vec<_> = feed.rows.iter().map(row_text).collect();
    format!("{} {} {rows:?}", feed.cursor, feed.revision)
}

fn object_text(staged: &StagedObject) -> String {
    format!("{:?} {:?}", staged.sent, staged.head)
}

fn control_text(rows: &ControlRows) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}
