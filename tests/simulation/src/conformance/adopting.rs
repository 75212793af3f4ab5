//! The destination takes over, and seals again.

use std::sync::Arc;

use domicile_transfer_protocol::rows::{AdoptedRow, RekeyedRow};
use domicile_transfer_protocol::store::{Adoption, Row};
use domicile_transfer_protocol::{Destination, DestinationFacts, Digest, Source, TransferStore};
use domicile_types::Result;

use super::Site;
use super::script::{At, Script};

impl<S: Site> Script<'_, S> {
    /// Everything the source released stands in the destination's tables at once.
    pub(super) async fn adopt(&mut self, from: At, source: &Source) -> Result<()> {
        let (id, subject) = (source.transfer, source.subject);
        let control = self.store(from).control_rows(subject).await?;
        let feed = self.store(from).feed(subject, 0, 2_000, u64::MAX).await?;
        let newest = |item| {
            feed.rows.iter().filter(|row| row.header.item_id == item).map(|row| row.header.version).max()
        };
        let row = |fed: &domicile_transfer_protocol::rows::FeedRow| {
            let mut header = fed.header.clone();
            (header.digest, header.key_version) = ([0; 32], 0);
            AdoptedRow { current: newest(header.item_id) == Some(header.version), header }
        };
        let rows: Vec<AdoptedRow> = feed.rows.iter().map(row).collect();
        let count = rows.len() as u64;
        let taken = self.rng.chance(20).then_some([5; 32]);
        let email_index = Some(taken.unwrap_or_else(|| self.ctx.random()));
        let adoption = Adoption {
            rows: Arc::new(rows),
            control: Arc::new(control),
            epoch: source.epoch.unwrap_or(0),
            email_sealed: Some(vec![8]),
            name_sealed: None,
            email_index,
        };
        let decide = Arc::new(move |facts: &DestinationFacts| facts.adopted(subject, count).map(Some));
        let answer = self.store(from.other()).adopt(id, adoption, decide).await;
        self.note("adopt", &answer.map(|row| super::looking::text(&Row::Destination(Box::new(row)))));
        Ok(())
    }

    /// Some rows and objects are sealed again; the destination signs when nothing travels any more.
    pub(super) async fn rekey(&mut self, at: At, row: &Destination) -> Result<()> {
        let id = row.transfer;
        let limit = u32::try_from(1 + self.rng.below(4)).unwrap_or(1);
        let travelling = self.store(at).travelling(id, None, limit).await?;
        let sealed = travelling.iter().map(|row| RekeyedRow {
            item: row.staged.item,
            version: row.staged.version,
            key_version: 3,
            digest: Digest(domicile_crypto::sha256(row.staged.item.as_bytes())),
            sealed: row.staged.item.as_bytes().to_vec(),
        });
        let answer = self.store(at).rekey(id, sealed.collect()).await;
        self.note("rekey", &answer);
        for (object, _) in self.store(at).travelling_objects(id).await? {
            for _ in 0..2 {
                let copy = domicile_types::ids::uuid_v4(self.ctx.rng.as_ref());
                let answer = self.store(at).rekey_object(id, object.object, 3, copy).await;
                self.note("rekey object", &answer);
            }
        }
        if let Some(subject) = row.subject {
            let copies = self.store(at).object_copies(subject).await;
            self.note(
                "copies",
                &copies.map(|mut copies| {
                    copies.sort_unstable();
                    copies
                }),
            );
        }
        if self.store(at).any_travelling(id).await? {
            return Ok(());
        }
        let gone = self.store(at).purge(id, 1_000).await;
        self.note("drop staging", &gone);
        let (rows, objects) = row.staged.as_ref().map_or((0, 0), |staged| (staged.rows, staged.objects));
        let decide =
            Arc::new(move |facts: &DestinationFacts| facts.rekeyed(rows, objects, Digest([6; 32])).map(Some));
        let answer = self.store(at).decide_destination("rekeyed", id, None, decide).await;
        self.note("rekeyed", &answer.map(|row| row.state));
        Ok(())
    }
}
