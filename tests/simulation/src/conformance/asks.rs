//! The steps of a move, taken on the stores by hand: what the executor does, without keys and network.

use std::sync::Arc;
use std::time::Duration;

use domicile_crypto::sha256;
use domicile_evidence::statement::AbortReason;
use domicile_transfer_protocol::release::Head;
use domicile_transfer_protocol::rows::{
    ConsentRow, SentObject, SentRow, StagedObject, StagedPage, StagedRow,
};
use domicile_transfer_protocol::source::{Certificate, ConsentGiven, ReleaseInputs, StagedClaim};
use domicile_transfer_protocol::store::{Driver, NewConsent, Request, Row};
use domicile_transfer_protocol::{
    Destination, DestinationFacts, Digest, Numbers, Received, Source, SourceChange, SourceFacts, State,
    TransferStore, destination,
};
use domicile_types::{Code, ConsentId, Error, PageId, Result, SubjectId, TransferId};

use super::Site;
use super::script::{At, Script};

/// A decision over the source's facts as a closure.
type Decide = Box<dyn Fn(&SourceFacts) -> Result<Option<SourceChange>> + Send + Sync>;

/// The numbers of the suite: freezes that may be tried three times.
pub(super) fn numbers() -> Numbers {
    Numbers { freeze_tries: 3, freeze_lag_rows: 64, ..Numbers::default() }
}

impl<S: Site> Script<'_, S> {
    /// A client asks for a move.
    pub(super) async fn request(&mut self, at: At, subject: SubjectId) -> Result<()> {
        let account = self.subjects.iter().find(|(whose, _)| *whose == subject).map(|(_, account)| *account);
        let account = account.ok_or_else(|| Error::new(Code::NotFound))?;
        let transfer = TransferId::generate(&self.ctx);
        let idempotency = format!("suite-key-{:08}", self.rng.below(12));
        let request = Request { transfer, subject, account, to: at.other().region()?, idempotency };
        let answer = self.store(at).request(request, None).await;
        if let Ok(row) = &answer
            && !self.transfers.contains(&row.transfer)
        {
            self.transfers.push(row.transfer);
        }
        self.note("request", &answer.map(|row| (row.transfer, row.attempt, row.state)));
        Ok(())
    }

    /// Takes one decision at the source.
    pub(super) async fn source(
        &mut self,
        at: At,
        id: TransferId,
        driver: Option<Driver>,
        name: &'static str,
        decide: Decide,
    ) {
        let answer = self.store(at).decide_source(name, id, driver, None, Arc::from(decide)).await;
        self.note(name, &answer.map(|row| super::looking::text(&Row::Source(Box::new(row)))));
    }

    async fn there(
        &mut self,
        at: At,
        id: TransferId,
        name: &'static str,
        decide: domicile_transfer_protocol::store::DestinationDecision,
    ) {
        let answer = self.store(at).decide_destination(name, id, None, decide).await;
        self.note(name, &answer.map(|row| super::looking::text(&Row::Destination(Box::new(row)))));
    }

    /// Brings one region everything it lacks of the other's statements; sometimes more than it lacks.
    pub(super) async fn deliver(&mut self, to: At, id: TransferId) -> Result<()> {
        let held = match self.store(to).find(id).await? {
            Some(Row::Source(row)) => row.lanes.peer_sequence(),
            Some(Row::Destination(row)) => row.lanes.peer_sequence(),
            None => 0,
        };
        let after = if self.rng.chance(20) { 0 } else { held };
        for received in self.lane(to.other(), id, after).await? {
            self.take_in(to, id, received).await?;
        }
        Ok(())
    }

    /// One statement of the other region.
    pub(super) async fn take_in(&mut self, to: At, id: TransferId, received: Received) -> Result<()> {
        match self.store(to).find(id).await? {
            Some(Row::Source(_)) => {
                let decide = Box::new(move |facts: &SourceFacts| facts.receive(received.clone()));
                self.source(to, id, None, "receive", decide).await;
            }
            Some(Row::Destination(_)) => {
                let decide = Arc::new(move |facts: &DestinationFacts| facts.receive(received.clone()));
                self.there(to, id, "receive", decide).await;
            }
            None => {
                let (here, again, now) = (to.region()?, received.clone(), self.ctx.now());
                let decide = Arc::new(move |_: &DestinationFacts| {
                    destination::invited(&here, again.clone(), now).map(Some)
                });
                let answer = self.store(to).invite(received, decide).await;
                self.note("invite", &answer.map(|row| row.state));
            }
        }
        Ok(())
    }

    /// The destination would take it, and the source makes the offer.
    pub(super) async fn preflight(&mut self, at: At, id: TransferId) -> Result<()> {
        self.deliver(at.other(), id).await?;
        let decide = Arc::new(|facts: &DestinationFacts| facts.preflighted(1).map(Some));
        self.there(at.other(), id, "accept", decide).await;
        let Some(peer) = self.lane(at.other(), id, 0).await?.into_iter().next() else { return Ok(()) };
        let text = format!("offer {id}");
        let offer = (Digest(sha256(text.as_bytes())), text);
        let decide = Box::new(move |facts: &SourceFacts| {
            facts.preflighted(offer.clone(), 1, peer.clone(), &numbers()).map(Some)
        });
        self.source(at, id, None, "preflighted", decide).await;
        Ok(())
    }

    /// The client consents.
    pub(super) async fn consent(&mut self, at: At, row: &Source) -> Result<()> {
        let (id, now) = (ConsentId::generate(&self.ctx), self.ctx.now());
        let (digest, expires_at) = (Digest(self.ctx.random()), now.plus(Duration::from_secs(600)));
        let offer = row.offer.unwrap_or_default();
        let given = ConsentGiven {
            id,
            account: row.account,
            authenticated_at: Some(now),
            offer,
            destination: row.to.clone(),
            notice_version: "1".to_owned(),
            offered_version: "1".to_owned(),
            digest,
            locator: self.rng.chance(50),
            expires_at,
        };
        let kept = ConsentRow {
            consent: id,
            account: row.account,
            purpose: "transfer".to_owned(),
            transfer: Some(row.transfer),
            attempt: row.attempt,
            source: row.from.clone(),
            destination: Some(row.to.clone()),
            offer: Some(offer),
            digest,
            notice_version: "1".to_owned(),
            locale: "en".to_owned(),
            notice: Digest([3; 32]),
            status: "active".to_owned(),
            given_at: now,
            expires_at,
            ended_at: None,
            locator: given.locator,
        };
        let decide = Arc::new(move |facts: &SourceFacts| facts.consent(&given, &numbers()).map(Some));
        let new = NewConsent { row: kept, subject: row.subject };
        let answer = self.store(at).consent(row.transfer, new, None, decide).await;
        self.note("consent", &answer.map(|(row, signed)| (row.state, hex::encode(signed.statement))));
        Ok(())
    }

    /// The destination signs its public key.
    pub(super) async fn prepare(&mut self, at: At, id: TransferId) {
        let public = self.ctx.random::<16>().to_vec();
        let decide = Arc::new(move |facts: &DestinationFacts| facts.prepared(1, public.clone()).map(Some));
        self.there(at, id, "prepared", decide).await;
    }

    /// A page of the source's feed, sent and taken in; sometimes one half alone.
    pub(super) async fn page(&mut self, from: At, row: &Destination, subject: SubjectId) -> Result<()> {
        let id = row.transfer;
        let after = if self.rng.chance(15) { 0 } else { row.cursor };
        let few = u32::try_from(1 + self.rng.below(4)).unwrap_or(1);
        let feed = match self.store(from).feed(subject, after, few, 1 << 20).await {
            Ok(feed) => feed,
            Err(error) => {
                return {
                    self.note::<()>("feed", &Err(error));
                    Ok(())
                };
            }
        };
        let page = PageId::generate(&self.ctx);
        let (mut sent, mut staged) = (Vec::new(), Vec::new());
        for (position, fed) in feed.rows.iter().enumerate() {
            let (h, digest) = (&fed.header, Digest(self.ctx.random()));
            let (item, version, revision) = (h.item_id, h.version, h.revision);
            sent.push(SentRow { item, version, revision, digest, bytes: h.bytes });
            staged.push(StagedRow {
                item,
                version,
                revision,
                page,
                position: u32::try_from(position).unwrap_or(0),
                last: position + 1 == feed.rows.len(),
                digest,
                sealed_header: vec![1, 2, 3],
                sealed_payload: vec![4; 5],
                object: h.object_id,
            });
        }
        let revisions = feed.rows.iter().map(|row| row.header.revision);
        let range = revisions.clone().min().zip(revisions.max());
        let answer = self.store(from).record_sent(id, sent, false).await;
        let left = answer.is_ok();
        self.note("record sent", &answer);
        if !left || self.rng.chance(10) {
            return Ok(());
        }
        let head = Head { header: vec![1], salt: vec![2], commitment: vec![3] };
        let decide =
            Arc::new(move |facts: &DestinationFacts| facts.pulled(feed.cursor, feed.revision).map(Some));
        let staging =
            self.store(from.other()).stage(id, StagedPage { page, head }, staged, range, decide).await;
        self.note("stage", &staging.map(|row| (row.cursor, row.revision)));
        Ok(())
    }

    /// Objects that rows refer to, sent and taken in.
    pub(super) async fn objects(&mut self, from: At, id: TransferId) -> Result<()> {
        for object in self.store(from.other()).missing_objects(id).await? {
            let digest = Digest(sha256(object.as_bytes()));
            let sent = SentObject { object, chunks: 1, digest, length: 9 };
            let answer = self.store(from).record_sent_object(id, sent).await;
            self.note("record object", &answer);
            let head = Head { header: vec![1], salt: vec![2], commitment: vec![3] };
            let answer = self.store(from.other()).stage_object(id, StagedObject { sent, head }).await;
            self.note("stage object", &answer);
        }
        Ok(())
    }

    /// The record is held still.
    pub(super) async fn freeze(&mut self, at: At, id: TransferId) -> Result<()> {
        let unsent = self.store(at).unsent(id).await?;
        let decide = Box::new(move |facts: &SourceFacts| facts.freeze(unsent, &numbers()).map(Some));
        self.source(at, id, None, "freeze", decide).await;
        Ok(())
    }

    /// The destination signs what it holds; sometimes not what it holds.
    pub(super) async fn sign_staged(&mut self, at: At, row: &Destination) -> Result<()> {
        let Some(frozen) = row.frozen else { return Ok(()) };
        let (mut manifest, totals) = self.store(at).staged_manifest(row.transfer).await?;
        let wrong = self.rng.chance(10);
        let claim = StagedClaim {
            freeze: frozen.freeze,
            final_revision: frozen.final_revision,
            rows: totals.rows,
            objects: totals.objects,
            bytes: totals.bytes,
            root: if wrong { Digest([9; 32]) } else { manifest.root()? },
        };
        let decide = Arc::new(move |facts: &DestinationFacts| facts.staged(claim.clone()).map(Some));
        self.there(at, row.transfer, "staged", decide).await;
        Ok(())
    }

    /// The source completes the move, or falls back when the roots differ.
    pub(super) async fn release(&mut self, at: At, row: &Source) -> Result<()> {
        let root = self.store(at).source_manifest(row.transfer).await.and_then(|mut rows| rows.root());
        let control = self.store(at).control_rows(row.subject).await?;
        let claimed = row.staged.as_ref().map(|staged| staged.root);
        let Some(root) = root.ok().filter(|root| claimed == Some(*root)) else {
            let decide = Box::new(|facts: &SourceFacts| facts.mismatch(&numbers()));
            self.source(at, row.transfer, None, "mismatch", decide).await;
            return Ok(());
        };
        let inputs = ReleaseInputs {
            freeze: row.freeze,
            root,
            control_revision: control.control_revision,
            key_release: vec![42; 7],
            key_release_digest: Digest([42; 32]),
        };
        let decide = Box::new(move |facts: &SourceFacts| facts.release(&inputs).map(Some));
        self.source(at, row.transfer, None, "release", decide).await;
        Ok(())
    }

    /// The source erases, all at once or a little at a time, and signs.
    pub(super) async fn shred(&mut self, at: At, row: &Source) -> Result<()> {
        let decide = Box::new(|facts: &SourceFacts| facts.begin_shred(4));
        self.source(at, row.transfer, None, "begin shred", decide).await;
        let State::Rekeyed = row.state else { return Ok(()) };
        let limit = if self.rng.chance(50) { 2 } else { 1_000 };
        while self.erase_some(at, row.transfer, limit).await > 0 {}
        let certificate = Certificate {
            rows: 1,
            objects: 0,
            keys: 4,
            provable_at: self.ctx.now().plus(Duration::from_secs(9)),
        };
        let decide = Box::new(move |facts: &SourceFacts| facts.shredded(&certificate).map(Some));
        self.source(at, row.transfer, None, "shredded", decide).await;
        Ok(())
    }

    async fn erase_some(&mut self, at: At, id: TransferId, limit: u32) -> u64 {
        let answer = self.store(at).erase(id, limit).await;
        let gone = answer.as_ref().copied().unwrap_or(0);
        self.note("erase", &answer);
        gone
    }

    /// Ends a transfer for one of the reasons.
    pub(super) async fn abort(&mut self, at: At, id: TransferId) {
        let reasons =
            [AbortReason::Withdrawn, AbortReason::Failed, AbortReason::Cancelled, AbortReason::Expired];
        let reason = reasons.get(self.pick(reasons.len())).copied().unwrap_or(AbortReason::Failed);
        let decide = Box::new(move |facts: &SourceFacts| facts.abort(reason));
        self.source(at, id, None, "abort", decide).await;
        if self.rng.chance(60) {
            let answer = self.store(at).forget_sent(id).await;
            self.note("forget", &answer);
        }
    }

    /// The destination drops what it has of an ended attempt, and signs.
    pub(super) async fn purge(&mut self, at: At, id: TransferId) {
        loop {
            let answer = self.store(at).purge(id, 3).await;
            let gone = answer.as_ref().copied().unwrap_or(0);
            self.note("purge", &answer);
            if gone == 0 {
                break;
            }
        }
        self.there(at, id, "purged", Arc::new(|facts: &DestinationFacts| facts.purged().map(Some))).await;
    }

    /// Both sides close.
    pub(super) async fn close(&mut self, at: At, id: TransferId) {
        for side in [at, at.other()] {
            let note = format!("checkpoint of {}", side.other().name());
            for _ in 0..2 {
                let answer = self.store(side).keep_checkpoint(id, note.clone()).await;
                self.note("checkpoint", &answer);
            }
        }
        self.source(at, id, None, "close", Box::new(|facts: &SourceFacts| facts.close().map(Some))).await;
        self.there(at.other(), id, "close", Arc::new(|facts: &DestinationFacts| facts.close().map(Some)))
            .await;
    }

    /// The region's own clock over its transfers.
    pub(super) async fn tick(&mut self, at: At) -> Result<()> {
        for id in self.store(at).due(self.ctx.now()).await? {
            let decide = Box::new(|facts: &SourceFacts| {
                if let Some(change) = facts.expire()? {
                    return Ok(Some(change));
                }
                if let Some(change) = facts.budget(&numbers())? {
                    return Ok(Some(change));
                }
                Ok(facts.stuck(Code::PeerSilent))
            });
            self.source(at, id, None, "tend", decide).await;
        }
        Ok(())
    }
}
