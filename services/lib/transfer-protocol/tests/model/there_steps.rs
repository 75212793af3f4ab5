//! What the destination region does, effect by effect, and what passes between the regions.

use domicile_evidence::statement::{AbortReason, Body};
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::{DestinationFacts, Digest, Received, State, destination};
use domicile_types::Code;

use crate::bugs::Bug;
use crate::rows::{region, small, stated, subject};
use crate::source_steps::{Done, Token};
use crate::world::{Broken, Claim, Key, Move, Page, ROWS, Tx, mask, release_digest, root};

impl Tx<'_> {
    /// Takes in a statement of the source; the first one makes the row: `take_in` and `invite`.
    pub(crate) fn there_receives(&mut self, index: usize, received: &Received) -> Done {
        let (_, to) = self.bounds.leg(index);
        let Some(facts) = self.there_facts(index, None) else {
            let change = destination::invited(region(to), received.clone(), self.now(index)).ok()?;
            self.commit_there(index, change);
            return Some(());
        };
        let mut received = received.clone();
        if self.bounds.has(Bug::AttemptUnchecked) && received.statement.attempt != facts.row.attempt {
            forge_attempt(&facts, &mut received);
        }
        let known = facts.receive(received).ok()?;
        let change = known?;
        self.commit_there(index, change);
        Some(())
    }

    /// This region would take the record: `answer_preflight`.
    pub(crate) fn accept(&mut self, index: usize) -> Done {
        let facts = self.there_facts(index, None)?;
        if facts.row.state != State::Requested {
            return None;
        }
        let change = facts.preflighted(1).ok()?;
        self.commit_there(index, change);
        Some(())
    }

    /// A process looks at the state and sets out to make the attempt's key pair: `prepare_alone`.
    pub(crate) fn prepare_begin(&mut self, index: usize) -> Done {
        if self.there_state(index) != Some(State::Consented) || self.world.moves[index].making_private != 0 {
            return None;
        }
        self.world.moves[index].making_private = 1;
        Some(())
    }

    /// It stores the private half, unless one is there.
    pub(crate) fn prepare_store(&mut self, index: usize) -> Done {
        if self.world.moves[index].making_private != 1 {
            return None;
        }
        let this = &mut self.world.moves[index];
        this.making_private = 2;
        this.private_key = this.private_key.max(Key::Fresh);
        Some(())
    }

    /// It signs the public half of the key that is kept, and destroys it if an abort came between.
    pub(crate) fn prepare_commit(&mut self, index: usize, token: Token) -> Done {
        if self.world.moves[index].making_private != 2 {
            return None;
        }
        self.world.moves[index].making_private = 0;
        if self.world.moves[index].private_key != Key::None
            && let Some(facts) =
                self.there_facts(index, Some(token)).filter(|f| f.row.state == State::Consented)
            && let Ok(change) = facts.prepared(1, vec![self.key_pair(index)])
        {
            self.commit_there(index, change);
            self.world.moves[index].private_key = Key::Used;
        }
        if self.world.moves[index].there.is_some_and(|row| row.abort.is_some()) {
            self.world.moves[index].private_key = Key::None;
        }
        Some(())
    }

    /// Whose key pair it is: this attempt's own.
    fn key_pair(&self, index: usize) -> u8 {
        let (_, to) = self.bounds.leg(index);
        let earlier = |other: &usize| {
            self.bounds.leg(*other).1 == to && self.world.moves[*other].private_key == Key::Used
        };
        let shared = self.bounds.has(Bug::KeyPairShared).then(|| (0..index).find(earlier)).flatten();
        u8::try_from(shared.unwrap_or(index)).expect("few transfers")
    }

    /// A page lands, now or later, once or twice: the store's `stage`.
    pub(crate) fn land(&mut self, index: usize, page: &Page) -> Done {
        let facts = self.there_facts(index, None)?;
        let change = facts.pulled(page.cursor.into(), page.revision.into()).ok()?;
        for (row, seal) in page.seals.iter().enumerate().filter(|(_, seal)| **seal != 0) {
            self.world.moves[index].staged[row] = *seal;
        }
        self.commit_there(index, change);
        Some(())
    }

    /// Whoever works on the transfer now has the lease: what another one fetched before cannot land any more.
    fn fence_pages(&mut self, index: usize) {
        if !self.bounds.has(Bug::PageUnfenced) {
            self.world.moves[index].pages = [None; 2];
        }
    }

    /// After the source fell back: rows that differ from the source's digests are dropped.
    pub(crate) fn compare_drop(&mut self, index: usize) -> Done {
        let facts = self.there_facts(index, None)?;
        let may = self.source_facts(index, None)?.may_send();
        if !facts.row.compare || may.is_err() || facts.may_pull().is_err() {
            return None;
        }
        self.fence_pages(index);
        let this = &mut self.world.moves[index];
        this.claim = None;
        for row in 0..ROWS {
            if this.staged[row] != this.sent[row] {
                this.staged[row] = 0;
            }
        }
        Some(())
    }

    /// They and missing ones are pulled again by name, and that is noted: the rest of `compare`.
    pub(crate) fn compare(&mut self, index: usize) -> Done {
        self.compare_drop(index)?;
        let this = self.world.moves[index];
        let missing = mask(&this.sent) & !mask(&this.staged);
        if missing != 0 {
            let page = self.send(index, 0, Some(missing))?;
            self.land(index, &page)?;
        }
        let change = self.there_facts(index, None)?.compared().ok()?;
        self.commit_there(index, change);
        Some(())
    }

    /// Everything up to the final revision is here: its root is computed: `stage_alone` up to its transaction.
    pub(crate) fn stage_begin(&mut self, index: usize) -> Done {
        let (_, to) = self.bounds.leg(index);
        let this = self.world.moves[index];
        let row = this.there.filter(|row| row.state == State::Frozen && !row.compare)?;
        let frozen = row.frozen?;
        let collides = mask(&this.staged) & self.world.homes[to].rows != 0;
        if row.cursor < frozen.final_revision || this.claim.is_some() || collides {
            return None;
        }
        let freeze = u8::try_from(frozen.freeze).expect("few freezes");
        let claim = Claim { freeze, last: small(frozen.final_revision), seals: this.staged };
        self.fence_pages(index);
        self.world.moves[index].claim = Some(claim);
        Some(())
    }

    /// Rows that exist here already refuse: `refuse`.
    pub(crate) fn refuse(&mut self, index: usize) -> Done {
        let (_, to) = self.bounds.leg(index);
        let collides = mask(&self.world.moves[index].staged) & self.world.homes[to].rows != 0;
        let facts = self.there_facts(index, None)?;
        if facts.row.state != State::Frozen || !collides {
            return None;
        }
        let change = facts.refuse(Code::Collision)?;
        self.commit_there(index, change);
        Some(())
    }

    /// It commits Staged, or is refused.
    pub(crate) fn stage_commit(&mut self, index: usize, token: Token) -> Done {
        let claim = self.world.moves[index].claim?;
        let claimed = self.staged_claim(&claim);
        let facts = self.there_facts(index, Some(token)).filter(|facts| facts.row.state != State::Staged);
        if let Some(change) = facts.and_then(|facts| facts.staged(claimed).ok()) {
            self.commit_there(index, change);
        }
        self.world.moves[index].claim = None;
        Some(())
    }

    /// What adoption looks at before it changes anything; the root and the key.
    fn may_adopt(&mut self, index: usize) -> Option<DestinationFacts> {
        let facts = self.there_facts(index, None)?;
        let released = facts.row.released.filter(|_| facts.row.state == State::Released)?;
        let this = self.world.moves[index];
        let (from, _) = self.bounds.leg(index);
        let control = this.release.filter(|_| !self.world.homes[from].closed)?;
        let fits = release_digest(control) == released.key_release && root(&this.staged) == released.root;
        if !fits || this.private_key != Key::Used {
            return None;
        }
        if facts.row.hpke_public != Some(vec![u8::try_from(index).expect("few transfers")]) {
            self.note(Broken::WrongKey);
        }
        Some(facts)
    }

    /// The key release is opened, and the travel key stored: `adopt_alone` up to its transaction.
    pub(crate) fn adopt_store(&mut self, index: usize) -> Done {
        if self.world.moves[index].travel_key_there {
            return None;
        }
        self.may_adopt(index)?;
        self.world.moves[index].travel_key_there = true;
        Some(())
    }

    /// The record is at home here: the store's `adopt` with `home_here`.
    pub(crate) fn adopt_commit(&mut self, index: usize) -> Done {
        let (from, to) = self.bounds.leg(index);
        if !self.world.moves[index].travel_key_there {
            return None;
        }
        let facts = self.may_adopt(index)?;
        let staged = self.world.moves[index].staged;
        let change = facts.adopted(subject(), mask(&staged).count_ones().into()).ok()?;
        let epoch = small(facts.row.released?.epoch);
        let (before, there) = (self.world.homes[to], self.world.homes[from]);
        let late = self.bounds.has(Bug::LateShred);
        if !late
            && before.standing.is_some_and(|standing| standing != Standing::Departed || before.epoch >= epoch)
        {
            return None;
        }
        if mask(&staged) != self.world.acknowledged {
            self.note(Broken::Adopted);
        }
        if self.world.moves[index].release != Some(there.control) {
            self.note(Broken::Control);
        }
        let here = self.home(to);
        here.standing = Some(Standing::Active);
        (here.moved, here.epoch, here.travelling) = (false, epoch, small(index as u64 + 1));
        (here.revision, here.control, here.rows) = (there.revision, there.control, mask(&staged));
        here.attempt = here.attempt.max(there.attempt);
        // The fingerprint and pseudonym keys arrive with the release; record keys are made when rows are sealed.
        (here.keys, here.held) = (true, there.held);
        self.commit_there(index, change);
        Some(())
    }

    /// Every row is sealed again: `rekey_rows`.
    pub(crate) fn rekey_rows(&mut self, index: usize) -> Done {
        let (_, to) = self.bounds.leg(index);
        let this = self.world.moves[index];
        let mine = self.world.homes[to].travelling == small(index as u64 + 1);
        if self.there_state(index) != Some(State::Adopted) || !mine || !this.travel_key_there {
            return None;
        }
        let home = self.home(to);
        (home.travelling, home.keys) = (0, true);
        self.world.moves[index].staged = [0; ROWS];
        Some(())
    }

    /// What travelled can be opened by nobody from now on: the key drops of `rekey`.
    pub(crate) fn rekey_drop(&mut self, index: usize) -> Done {
        let (_, to) = self.bounds.leg(index);
        let this = self.world.moves[index];
        let done = !this.travel_key_there && this.private_key == Key::None;
        if self.there_state(index) != Some(State::Adopted) || self.world.homes[to].travelling != 0 || done {
            return None;
        }
        let this = &mut self.world.moves[index];
        (this.travel_key_there, this.private_key, this.staged) = (false, Key::None, [0; ROWS]);
        Some(())
    }

    /// A backup that covers it: `backed_up`.
    pub(crate) fn back_up(&mut self, index: usize) -> Done {
        let this = self.world.moves[index];
        let dropped = !this.travel_key_there && this.private_key == Key::None;
        let (_, to) = self.bounds.leg(index);
        let ready = self.world.homes[to].travelling == 0 && dropped;
        if self.there_state(index) != Some(State::Adopted) || this.backup || !ready {
            return None;
        }
        self.world.moves[index].backup = true;
        if self.bounds.restored == Some(to) && self.world.old.is_none() {
            // Rekeyed says that a backup covers the record: nothing older is restored after it.
            self.save()?;
        }
        Some(())
    }

    /// And it is signed.
    pub(crate) fn rekey_sign(&mut self, index: usize) -> Done {
        let (_, to) = self.bounds.leg(index);
        let this = self.world.moves[index];
        let ready = this.backup || self.bounds.has(Bug::SignedBeforeBackup);
        if !ready || self.world.homes[to].travelling != 0 || this.private_key != Key::None {
            return None;
        }
        let change = self.there_facts(index, None)?.rekeyed(1, 0, Digest([5; 32])).ok()?;
        self.commit_there(index, change);
        Some(())
    }

    /// A process destroys the key and drops everything of an aborted attempt: `purge_alone`.
    pub(crate) fn purge_drop(&mut self, index: usize) -> Done {
        let facts = self.purging(index)?;
        if facts.row.state != State::Aborting || self.world.moves[index].purged {
            return None;
        }
        self.drop_attempt(index);
        self.world.moves[index].purged = true;
        Some(())
    }

    fn drop_attempt(&mut self, index: usize) {
        let keeps = self.bounds.has(Bug::PrivateKeyKept);
        let this: &mut Move = &mut self.world.moves[index];
        if !keeps {
            this.private_key = Key::None;
        }
        this.staged = [0; ROWS];
    }

    /// What a purge sees: with the bug, an abort where none was signed.
    fn purging(&mut self, index: usize) -> Option<DestinationFacts> {
        let mut facts = self.there_facts(index, None)?;
        let before = matches!(facts.row.state, State::Copying | State::Frozen | State::Staged);
        if self.bounds.has(Bug::PurgedUnsigned) && before {
            facts.row.state = State::Aborting;
            facts.row.abort = Some(AbortReason::Failed);
        }
        Some(facts)
    }

    /// It signs and leaves the tombstone.
    pub(crate) fn purge_sign(&mut self, index: usize) -> Done {
        if !self.world.moves[index].purged {
            return None;
        }
        self.world.moves[index].purged = false;
        if let Some(change) = self.purging(index).and_then(|facts| facts.purged().ok()) {
            self.commit_there(index, change);
        }
        Some(())
    }

    /// The row of a purged attempt is forgotten: only with the bug.
    pub(crate) fn forget(&mut self, index: usize) -> Done {
        let over = self.there_state(index) == Some(State::Aborted)
            && self.source_state(index) == Some(State::Aborted);
        if !self.bounds.has(Bug::NoTombstone) || !over {
            return None;
        }
        self.world.moves[index].there = None;
        Some(())
    }

    /// An abort arrives before the start it aborts, and is answered as if all were done: only with the bug.
    pub(crate) fn overtaken(&mut self, index: usize) -> Done {
        let unknown = self.world.moves[index].there.is_none();
        if !self.bounds.has(Bug::AbortOvertakes)
            || !unknown
            || self.source_state(index) != Some(State::Aborting)
        {
            return None;
        }
        let facts = self.source_facts(index, None)?;
        let row = domicile_transfer_protocol::Source { state: State::Aborted, ..facts.row };
        self.commit_source(index, domicile_transfer_protocol::SourceChange::row(row));
        Some(())
    }

    /// What an ended attempt must not leave behind is looked for now and then: `after_purge`.
    pub(crate) fn sweep(&mut self, index: usize) -> Done {
        let left = self.world.moves[index].private_key != Key::None;
        if self.there_state(index) != Some(State::Aborted) || !left || self.bounds.has(Bug::PrivateKeyKept) {
            return None;
        }
        self.drop_attempt(index);
        Some(())
    }

    /// Closes the destination's side with the other log's proof over its last statement.
    pub(crate) fn close_there(&mut self, index: usize) -> Done {
        let source = self.world.moves[index].source?;
        let row = self.world.moves[index].there?;
        if row.lanes.peer_tip().map(|tip| tip.0) != Some(source.lanes.own_tip()) {
            return None;
        }
        let change = self.there_facts(index, None)?.close().ok()?;
        self.commit_there(index, change);
        Some(())
    }

    /// Brings a side the other side's statement of a number.
    pub(crate) fn deliver(&mut self, index: usize, to_source: bool, sequence: u64) -> Done {
        let received = stated(self.lanes_of(index, !to_source)?, sequence)?;
        if to_source { self.source_receives(index, received) } else { self.there_receives(index, received) }
    }

    /// Brings the destination a statement of another attempt.
    pub(crate) fn deliver_foreign(&mut self, index: usize, other: usize) -> Done {
        let lanes = self.lanes_of(other, true)?;
        let received = stated(lanes, lanes.own_sequence())?;
        self.world.moves[index].there?;
        self.there_receives(index, received)
    }
}

/// What a lane by subject instead of by transfer would make of a statement: one that fits.
fn forge_attempt(facts: &DestinationFacts, received: &mut Received) {
    if !matches!(received.body, Body::Aborting { .. }) {
        return;
    }
    let lanes = &facts.row.lanes;
    received.statement.attempt = facts.row.attempt;
    received.statement.sequence = lanes.peer_sequence() + 1;
    received.statement.prev = lanes.peer_tip().map_or([0; 32], |tip| tip.0);
    received.statement.seen = (lanes.own_sequence() > 0).then(|| (lanes.own_sequence(), lanes.own_tip()));
}
