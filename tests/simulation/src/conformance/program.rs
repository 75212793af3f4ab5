//! Programs: a straight move, a withdrawn one, and random ones in which anything comes at any time.

use std::time::Duration;

use domicile_transfer_protocol::source::SourceFacts;
use domicile_transfer_protocol::store::{Driver, Row, Work};
use domicile_transfer_protocol::{Destination, Source, State, TransferStore};
use domicile_types::{ObjectId, Result, SubjectId, TransferId};
use uuid::Uuid;

use super::script::{At, Script};
use super::{Pair, Site};
use crate::memory::NewObject;

/// The next sensible step of every move, to its end: what one region had is in the other.
///
/// # Errors
/// What a store answered where it had to answer well.
pub async fn straight_move<S: Site>(pair: &Pair<S>) -> Result<Vec<String>> {
    let mut script = Script::new(pair, 1);
    let subject = script.open_record(At::Eu).await?;
    for _ in 0..7 {
        script.write(At::Eu, subject).await?;
    }
    script.object(At::Eu, subject).await?;
    script.request(At::Eu, subject).await?;
    for _ in 0..60 {
        script.forward().await?;
    }
    script.everything().await?;
    Ok(script.words())
}

/// A move that is withdrawn while its rows travel, and asked for again.
///
/// # Errors
/// What a store answered where it had to answer well.
pub async fn withdrawn_move<S: Site>(pair: &Pair<S>) -> Result<Vec<String>> {
    let mut script = Script::new(pair, 2);
    let subject = script.open_record(At::Us).await?;
    for _ in 0..5 {
        script.write(At::Us, subject).await?;
    }
    script.request(At::Us, subject).await?;
    for _ in 0..9 {
        script.forward().await?;
    }
    script.everything().await?;
    let id = script.transfers.first().copied();
    if let Some(id) = id {
        script.abort(At::Us, id).await;
    }
    script.everything().await?;
    for _ in 0..5 {
        script.forward().await?;
        script.request(At::Us, subject).await?;
    }
    script.everything().await?;
    Ok(script.words())
}

/// A random program of so many operations.
///
/// # Errors
/// What a store answered where it had to answer well.
pub async fn program<S: Site>(pair: &Pair<S>, seed: u64, length: u32) -> Result<Vec<String>> {
    let mut script = Script::new(pair, seed);
    script.open_record(At::Eu).await?;
    script.open_record(At::Us).await?;
    for (at, subject) in [(At::Eu, 0), (At::Us, 1)] {
        let subject = script.subjects.get(subject).map(|(subject, _)| *subject);
        if let Some(subject) = subject {
            script.write(at, subject).await?;
            script.request(at, subject).await?;
        }
    }
    for _ in 0..length {
        if script.rng.chance(55) { script.forward().await? } else { script.anything().await? }
    }
    script.everything().await?;
    Ok(script.words())
}

impl<S: Site> Script<'_, S> {
    async fn write(&mut self, at: At, subject: SubjectId) -> Result<()> {
        let new = self.item(subject, None);
        let header = new.header.clone();
        let answer = self.site(at).write_item(new).await;
        if answer.is_ok() {
            self.wrote(&header);
        }
        self.note("write", &answer);
        Ok(())
    }

    async fn object(&mut self, at: At, subject: SubjectId) -> Result<()> {
        let object = ObjectId::generate(&self.ctx);
        let begun = NewObject { object, subject, length: 9, chunks: 1, key_version: 1 };
        let answer = self.site(at).begin_object(begun).await;
        let begun = answer.is_ok();
        self.note("begin object", &answer);
        if !begun || self.rng.chance(20) {
            return Ok(());
        }
        let new = self.item(subject, Some(object));
        let answer = self.site(at).finish_object(object, new).await;
        if answer.is_ok() {
            self.objects.push((subject, object));
        }
        self.note("finish object", &answer);
        Ok(())
    }

    /// A random transfer takes its next step.
    async fn forward(&mut self) -> Result<()> {
        let Some(id) = self.transfers.get(self.pick(self.transfers.len())).copied() else { return Ok(()) };
        let (at, row, there) = self.rows(id).await?;
        let Row::Source(row) = row else { return Ok(()) };
        let there = match there {
            Some(Row::Destination(there)) => Some(*there),
            _ => None,
        };
        self.say(format!("forward {} {:?} {:?}", at.name(), row.state, there.as_ref().map(|row| row.state)));
        self.step(at, id, &row, there).await
    }

    async fn step(&mut self, at: At, id: TransferId, row: &Source, there: Option<Destination>) -> Result<()> {
        let Some(there) = there else {
            return if row.state == State::Requested {
                self.preflight(at, id).await
            } else {
                self.deliver(at.other(), id).await
            };
        };
        if there.lanes.own_sequence() > row.lanes.peer_sequence() && row.state != State::Requested {
            return self.deliver(at, id).await;
        }
        if row.lanes.own_sequence() > there.lanes.peer_sequence() {
            return self.deliver(at.other(), id).await;
        }
        match (row.state, there.state) {
            (State::Requested, _) => self.preflight(at, id).await?,
            (State::Preflighted, _) => self.consent(at, row).await?,
            (State::Consented, State::Consented) => self.prepare(at.other(), id).await,
            (State::Consented, _) => {
                self.source(at, id, None, "open copy", Box::new(|f: &SourceFacts| f.open_copy().map(Some)))
                    .await;
            }
            (State::Copying, _) if there.cursor == 0 || self.rng.chance(50) => {
                self.page(at, &there, row.subject).await?;
                self.objects(at, id).await?;
            }
            (State::Copying, _) => self.freeze(at, id).await?,
            (State::Frozen, _) if there.frozen.is_some_and(|frozen| frozen.final_revision > there.cursor) => {
                self.page(at, &there, row.subject).await?;
                self.objects(at, id).await?;
            }
            (State::Frozen, _) => self.sign_staged(at.other(), &there).await?,
            (State::Staged, _) => self.release(at, row).await?,
            (State::Released, _) => self.adopt(at, row).await?,
            (State::Adopted, _) => self.rekey(at.other(), &there).await?,
            (State::Rekeyed, _) => self.shred(at, row).await?,
            (State::Shredded, _) => self.close(at, id).await,
            (State::Aborting, _) => self.purge(at.other(), id).await,
            (State::Closed | State::Aborted, _) => self.deliver(at.other(), id).await?,
        }
        Ok(())
    }

    /// Anything, whether it makes sense or not.
    async fn anything(&mut self) -> Result<()> {
        let at = At::BOTH.get(self.pick(2)).copied().unwrap_or(At::Eu);
        let Some((subject, account)) = self.subjects.get(self.pick(self.subjects.len())).copied() else {
            return Ok(());
        };
        let Some(id) = self.transfers.get(self.pick(self.transfers.len())).copied() else {
            return self.request(at, subject).await;
        };
        match self.rng.below(16) {
            0 | 1 => self.write(at, subject).await?,
            2 => self.object(at, subject).await?,
            3 => self.request(at, subject).await?,
            4 => self.deliver(at, id).await?,
            5 => {
                let seconds = [0, 1, 3, 61, 700];
                let by = seconds.get(self.pick(seconds.len())).copied().unwrap_or(0);
                self.pair.clock.advance(Duration::from_secs(by));
                self.tick(at).await?;
            }
            6 => self.abort(at, id).await,
            7 => self.purge(at, id).await,
            8 => {
                let stands = self.rng.chance(40);
                let answer = self.site(at).hold(subject, account, stands).await;
                self.note("hold", &answer);
            }
            9 => self.drive(at, id).await?,
            10 => self.work(at, id).await?,
            11 => self.freeze(at, id).await.unwrap_or_default(),
            12 => {
                let held: Vec<_> = self.items.iter().map(|item| (item.1, item.2)).take(2).collect();
                let answer = self.store(at).drop_staged(id, held).await;
                self.note("drop staged", &answer);
            }
            13 => self.operate(at, id).await,
            14 => self.picture().await?,
            _ => self.look(at, id, subject).await,
        }
        Ok(())
    }

    async fn operate(&mut self, at: At, id: TransferId) {
        let pause = self.rng.chance(40);
        let decide = Box::new(move |facts: &SourceFacts| {
            if pause { facts.pause("suite") } else { facts.resume("suite") }.map(Some)
        });
        self.source(at, id, None, "operate", decide).await;
    }

    /// Two coordinators and their tokens.
    async fn drive(&mut self, at: At, id: TransferId) -> Result<()> {
        let holder = Uuid::from_u128(u128::from(1 + self.rng.below(2)));
        let answer = self.store(at).lease(id, holder).await;
        let token = answer.as_ref().ok().copied().flatten().unwrap_or(0);
        self.note("lease", &answer);
        let driver =
            Driver { attempt: 1 + self.rng.below(2), token: token.saturating_sub(self.rng.below(2)) };
        let decide = Box::new(|facts: &SourceFacts| Ok(facts.stuck(domicile_types::Code::PeerSilent)));
        self.source(at, id, Some(driver), "driven", decide).await;
        Ok(())
    }

    /// Two processes of one region and their leases on a transfer's work.
    async fn work(&mut self, at: At, id: TransferId) -> Result<()> {
        let holder = Uuid::from_u128(u128::from(10 + self.rng.below(3)));
        let lasts = Duration::from_secs(self.rng.below(4));
        let answer = self.store(at).work_take(id, holder, lasts).await;
        let work = answer.as_ref().ok().copied().flatten();
        self.note("work", &answer);
        let work = work.unwrap_or(Work { transfer: id, holder, token: 1 });
        let renewed = self.store(at).work_renew(work, lasts).await;
        self.note("renew", &renewed);
        let stale = Work { token: work.token + self.rng.below(2), ..work };
        let answer = self.store(at).under(stale).purge(id, 0).await;
        self.note("under", &answer);
        if self.rng.chance(50) {
            let answer = self.store(at).work_end(work).await;
            self.note("end", &answer);
        }
        Ok(())
    }

    /// Everything both regions can tell.
    async fn everything(&mut self) -> Result<()> {
        for id in self.transfers.clone() {
            for at in At::BOTH {
                for (subject, _) in self.subjects.clone() {
                    self.look(at, id, subject).await;
                }
            }
        }
        self.picture().await
    }
}
