//! What the source region does, effect by effect: `app/*.rs` of the executor with the transactions of the store.

use domicile_evidence::statement::AbortReason;
use domicile_transfer_protocol::source::{
    Certificate, ConsentGiven, NewTransfer, ReleaseInputs, Standing, Unsent, request,
};
use domicile_transfer_protocol::{Lanes, Received, SourceFacts, State};

use crate::bugs::Bug;
use crate::rows::{
    NOW, OFFER, Stating, account, consent, end, keep_source, region, state, stated, subject, transfer,
};
use crate::world::{Broken, Consent, Inputs, Key, Page, ROWS, Seals, Tx, mask, release_digest, root};

/// What a step answers: `None` when it was refused or had nothing to do.
pub(crate) type Done = Option<()>;

/// Who lets a step be taken: the fencing token.
pub(crate) type Token = u64;

impl Tx<'_> {
    /// The client asks: the store's `may_request` and `source_request`.
    pub(crate) fn request(&mut self, index: usize) -> Done {
        let (from, to) = self.bounds.leg(index);
        let home = self.world.homes[from];
        let refused = self.any_open(from) && !self.bounds.early;
        // A restored region that has forgotten a transfer would make another one, with an id of its own.
        let forgotten = self.world.old.is_some_and(|(source, _)| source.is_some());
        if refused || home.closed || forgotten || home.held || home.standing != Some(Standing::Active) {
            return None;
        }
        let attempt = home.attempt + 1;
        let earlier = self.world.moves.iter().filter_map(|other| other.source);
        if earlier.into_iter().any(|row| row.attempt == u64::from(attempt)) {
            self.note(Broken::AttemptReused);
        }
        self.home(from).attempt = attempt;
        let new = NewTransfer {
            transfer: transfer(index),
            attempt: attempt.into(),
            subject: subject(),
            account: account(),
            from: region(from).clone(),
            to: region(to).clone(),
            now: NOW,
        };
        let mut change = request(new, self.numbers);
        // The first coordinator has its lease: its token is 1.
        change.row.token = 1;
        let whose = Stating { transfer: index, attempt: attempt.into(), origin: from };
        let mut row = change.row;
        if let Some(body) = &change.emit {
            state(whose, &mut row.lanes, body, 0);
            self.world.moves[index].logs[0][0] += 1;
        }
        self.world.moves[index].source = Some(keep_source(row, self.numbers));
        Some(())
    }

    /// Whether the subject has an open transfer in a region, in either role; one that is aborting does not count.
    fn any_open(&self, region: usize) -> bool {
        let open =
            |state: Option<State>| state.is_some_and(|state| !state.rests() && state != State::Aborting);
        (0..self.bounds.legs.len()).any(|index| {
            let (from, to) = self.bounds.leg(index);
            (from == region && open(self.source_state(index)))
                || (to == region && open(self.there_state(index)))
        })
    }

    /// The offer stands, with the destination's acceptance: `app/preflight.rs`.
    pub(crate) fn preflight_here(&mut self, index: usize) -> Done {
        let there = self.world.moves[index].there?;
        let peer = stated(&there.lanes, 1)?.clone();
        let facts = self.source_facts(index, None)?;
        let change = facts.preflighted((OFFER, String::new()), 1, peer, self.numbers).ok()?;
        self.commit_source(index, change);
        Some(())
    }

    /// The client consents, freshly authenticated: `app/consent.rs`.
    pub(crate) fn consent(&mut self, index: usize) -> Done {
        let (_, to) = self.bounds.leg(index);
        let facts = self.source_facts(index, None)?;
        let given = ConsentGiven {
            id: consent(index),
            account: account(),
            authenticated_at: Some(facts.now),
            offer: OFFER,
            destination: region(to).clone(),
            notice_version: "1".to_owned(),
            offered_version: "1".to_owned(),
            digest: Self::consent_digest(),
            locator: false,
            expires_at: end(self.numbers),
        };
        let change = facts.consent(&given, self.numbers).ok()?;
        self.commit_source(index, change);
        Some(())
    }

    /// A withdrawal, a cancellation, or a driver that gives up: the transaction of `abort`.
    pub(crate) fn abort(&mut self, index: usize, reason: AbortReason, driver: Option<Token>) -> Done {
        let mut facts = self.source_facts(index, driver)?;
        if self.bounds.has(Bug::WithdrawnAfterReleased) && facts.row.state == State::Released {
            facts.row.state = State::Staged;
            facts.consent.as_mut()?.active = true;
        }
        let change = facts.abort(reason).ok()??;
        self.commit_ending(index, change);
        Some(())
    }

    fn commit_ending(&mut self, index: usize, mut change: domicile_transfer_protocol::SourceChange) {
        if self.bounds.has(Bug::StaysFrozen) {
            change.residency = None;
        }
        self.commit_source(index, change);
    }

    /// What follows an abort, by whoever gets to it; the withdrawal is acknowledged after it: `after_abort`.
    pub(crate) fn clean_up(&mut self, index: usize) -> Done {
        let row = self.world.moves[index].source?;
        row.abort?;
        let keeps = self.bounds.has(Bug::TravelKeyKept);
        let this = &mut self.world.moves[index];
        if !keeps {
            this.travel_key = Key::None;
        }
        this.sent = [0; ROWS];
        this.acknowledged |= row.abort == Some(AbortReason::Withdrawn);
        Some(())
    }

    /// The region's clock finds a deadline over: `expire`.
    pub(crate) fn expire(&mut self, index: usize) -> Done {
        let change = self.source_facts(index, None)?.expire().ok()??;
        self.commit_ending(index, change);
        Some(())
    }

    /// The region's clock finds the freeze's budget over: `budget`.
    pub(crate) fn budget(&mut self, index: usize) -> Done {
        let mut facts = self.source_facts(index, None)?;
        facts.now = facts.now.max(facts.row.freeze_deadline?);
        let change = facts.budget(self.numbers).ok()??;
        self.commit_source(index, change);
        Some(())
    }

    /// A process looks at the state and sets out to make the travel key: `open_copy`.
    pub(crate) fn open_begin(&mut self, index: usize) -> Done {
        if self.source_state(index) != Some(State::Consented) || self.world.moves[index].making_travel != 0 {
            return None;
        }
        self.world.moves[index].making_travel = 1;
        Some(())
    }

    /// It stores the key, unless one is there.
    pub(crate) fn open_store(&mut self, index: usize) -> Done {
        let this = &mut self.world.moves[index];
        if this.making_travel != 1 {
            return None;
        }
        this.making_travel = 2;
        this.travel_key = this.travel_key.max(Key::Fresh);
        Some(())
    }

    /// It commits Copying, and destroys the key again if the transfer was aborted meanwhile.
    pub(crate) fn open_commit(&mut self, index: usize, token: Token) -> Done {
        if self.world.moves[index].making_travel != 2 {
            return None;
        }
        self.world.moves[index].making_travel = 0;
        if let Some(facts) = self.source_facts(index, Some(token)).filter(|f| f.row.state == State::Consented)
            && let Ok(change) = facts.open_copy()
        {
            self.commit_source(index, change);
        }
        self.clean_up(index);
        Some(())
    }

    /// A page past a revision, its digests stored in one transaction that looks at the consent: `send_page`
    /// with the store's `record_sent`. `only` names rows instead.
    pub(crate) fn send(&mut self, index: usize, after: u8, only: Option<u8>) -> Option<Page> {
        let (from, _) = self.bounds.leg(index);
        let home = self.world.homes[from];
        if self.world.moves[index].travel_key == Key::None || home.closed {
            return None;
        }
        let facts = SourceFacts { held: false, ..self.source_facts(index, None)? };
        if facts.may_send().is_err() && !self.bounds.has(Bug::SentUnchecked) {
            return None;
        }
        if !self.consented(index) {
            self.note(Broken::NoConsent);
        }
        let wanted = home.rows & only.unwrap_or(u8::MAX << after);
        let mut seals: Seals = [0; ROWS];
        for (row, seal) in seals.iter_mut().enumerate().filter(|(row, _)| wanted & 1 << row != 0) {
            *seal = self.fresh_seal(index, row);
            self.world.moves[index].sent[row] = *seal;
        }
        self.world.moves[index].travel_key = Key::Used;
        // The counter is read before the rows: what commits meanwhile comes with the next page.
        let early = u8::from(self.bounds.has(Bug::EarlyCursor) && usize::from(home.revision) < ROWS);
        let cursor = if only.is_some() { 0 } else { (home.revision + early).max(after) };
        let revision = if only.is_some() { 0 } else { home.revision };
        Some(Page { seals, cursor, revision })
    }

    /// Freezes; how much is unsent was read before, and may be wrong by now.
    pub(crate) fn freeze(&mut self, index: usize, token: Token) -> Done {
        let facts = self.source_facts(index, Some(token))?;
        let change = facts.freeze(Unsent::default(), self.numbers).ok()?;
        self.commit_source(index, change);
        Some(())
    }

    /// The source's own root: live rows joined to stored digests; `None` where a row has none.
    fn own_root(&self, index: usize) -> Option<Seals> {
        let (from, _) = self.bounds.leg(index);
        let rows = self.world.homes[from].rows;
        let sent = self.world.moves[index].sent;
        let unsent = rows & !mask(&sent) != 0;
        if unsent && !self.bounds.has(Bug::UnsentUnblocked) && !self.bounds.has(Bug::EarlyCursor) {
            return None;
        }
        let mut seals = sent;
        for (row, seal) in seals.iter_mut().enumerate() {
            if rows & 1 << row == 0 {
                *seal = 0;
            }
        }
        Some(seals)
    }

    /// Whether the source's own root is the one the destination signed.
    fn roots_fit(&self, index: usize) -> Option<Seals> {
        let staged = self.world.moves[index].source?.staged.as_ref().map(|staged| staged.root)?;
        self.own_root(index).filter(|seals| root(seals) == staged)
    }

    /// A process computes the root and seals the key release: the first half of `try_release`.
    pub(crate) fn release_begin(&mut self, index: usize) -> Done {
        let (from, _) = self.bounds.leg(index);
        let this = self.world.moves[index];
        let row = this.source.filter(|row| row.state == State::Staged)?;
        if this.travel_key == Key::None || row.hpke_public.is_none() || this.inputs.is_some() {
            return None;
        }
        let seals = self.roots_fit(index)?;
        let freeze = u8::try_from(row.freeze).expect("few freezes");
        let control = self.world.homes[from].control;
        self.world.moves[index].inputs = Some(Inputs { freeze, seals, control });
        Some(())
    }

    /// It commits Released, or is refused; either way it has ended: the second half of `try_release`.
    pub(crate) fn release_commit(&mut self, index: usize, token: Token) -> Done {
        let (from, _) = self.bounds.leg(index);
        let inputs = self.world.moves[index].inputs?;
        let decided = self.source_facts(index, Some(token)).and_then(|mut facts| {
            let mut given = ReleaseInputs {
                freeze: inputs.freeze.into(),
                root: root(&inputs.seals),
                control_revision: inputs.control.into(),
                key_release: vec![inputs.control],
                key_release_digest: release_digest(inputs.control),
            };
            self.forge_release(&inputs, &mut facts, &mut given);
            facts.release(&given).ok()
        });
        if let Some(change) = decided {
            let home = self.world.homes[from];
            if mask(&inputs.seals) != home.rows {
                self.note(Broken::Adopted);
            }
            if inputs.control != home.control {
                self.note(Broken::Control);
            }
            self.commit_source(index, change);
        }
        self.world.moves[index].inputs = None;
        Some(())
    }

    fn forge_release(&self, inputs: &Inputs, facts: &mut SourceFacts, given: &mut ReleaseInputs) {
        match self.bounds.bug {
            Some(Bug::ReleasedWithoutConsent) => facts.now = NOW,
            Some(Bug::ReleasedHeld) => facts.held = false,
            Some(Bug::EpochKept) => facts.residency.epoch -= 1,
            Some(Bug::ControlUnchecked) => given.control_revision = facts.residency.control_revision,
            Some(Bug::StaleAnswer) if matches!(facts.row.state, State::Frozen | State::Staged) => {
                facts.row.state = State::Staged;
                let claim = crate::world::Claim {
                    freeze: u8::try_from(facts.row.freeze).expect("few freezes"),
                    last: crate::rows::small(facts.residency.revision),
                    seals: inputs.seals,
                };
                facts.row.staged = Some(self.staged_claim(&claim));
                given.freeze = facts.row.freeze;
            }
            _ => {}
        }
    }

    /// The roots differ: `roots_differ`.
    pub(crate) fn mismatch(&mut self, index: usize, token: Token) -> Done {
        if self.source_state(index) != Some(State::Staged) || self.roots_fit(index).is_some() {
            return None;
        }
        let facts = self.source_facts(index, Some(token))?;
        let change = facts.mismatch(self.numbers).ok()??;
        self.commit_source(index, change);
        Some(())
    }

    /// Takes in a statement of the destination: `source_takes_in`.
    pub(crate) fn source_receives(&mut self, index: usize, received: &Received) -> Done {
        let facts = self.source_facts(index, None)?;
        match facts.receive(received.clone()).ok()? {
            Some(change) => self.commit_source(index, change),
            None if self.bounds.has(Bug::LoggedTwice) => self.world.moves[index].logs[0][1] += 1,
            None => return None,
        }
        Some(())
    }

    /// A process begins to erase: `erase` up to its first transaction. It has listed the keys before.
    pub(crate) fn erase_begin(&mut self, index: usize) -> Done {
        if self.world.moves[index].erasing != 0 {
            return None;
        }
        let facts = self.shredding(index)?;
        if let Some(change) = facts.begin_shred(1).ok()? {
            self.commit_source(index, change);
        }
        self.world.moves[index].erasing = 1;
        Some(())
    }

    fn shredding(&mut self, index: usize) -> Option<SourceFacts> {
        let mut facts = self.source_facts(index, None)?;
        if self.bounds.has(Bug::ShredBeforeRekeyed) && facts.row.state == State::Adopted {
            facts.row.state = State::Rekeyed;
        }
        if self.bounds.has(Bug::LateShred) {
            facts.residency.standing = Standing::Released;
            facts.residency.epoch = facts.row.epoch?;
        }
        Some(facts)
    }

    /// It destroys the keys it has listed: nothing asks the database again.
    pub(crate) fn erase_keys(&mut self, index: usize) -> Done {
        if self.world.moves[index].erasing != 1 {
            return None;
        }
        self.world.moves[index].erasing = 2;
        self.destroy_keys(index);
        Some(())
    }

    fn destroy_keys(&mut self, index: usize) {
        let (from, _) = self.bounds.leg(index);
        let home = self.world.homes[from];
        // Keys made under a later epoch, of a record that has come back, are not among those listed.
        let listed = self.world.moves[index].source.and_then(|row| row.epoch) == Some(u64::from(home.epoch));
        if !listed && !self.bounds.has(Bug::UnlistedErased) {
            return;
        }
        if home.held {
            self.note(Broken::Held);
        }
        self.home(from).keys = false;
        let this = &mut self.world.moves[index];
        (this.travel_key, this.erased) = (Key::None, true);
    }

    /// It erases rows, objects, digests and the key release, and nobody else holds its lease.
    pub(crate) fn erase_rows(&mut self, index: usize) -> Done {
        let (from, _) = self.bounds.leg(index);
        if self.world.moves[index].erasing != 2 {
            return None;
        }
        self.home(from).rows = 0;
        let this = &mut self.world.moves[index];
        (this.erasing, this.release, this.sent) = (3, None, [0; ROWS]);
        Some(())
    }

    /// It looks through everything and signs.
    pub(crate) fn erase_sign(&mut self, index: usize) -> Done {
        let (from, _) = self.bounds.leg(index);
        if self.world.moves[index].erasing != 3 {
            return None;
        }
        self.world.moves[index].erasing = 0;
        let home = self.world.homes[from];
        let certificate = Certificate { rows: 1, objects: 0, keys: 1, provable_at: NOW };
        if home.rows == 0
            && !home.keys
            && let Some(change) = self.shredding(index).and_then(|facts| facts.shredded(&certificate).ok())
        {
            self.commit_source(index, change);
        }
        Some(())
    }

    /// A process that has begun to erase stands still so long that its lease goes to another.
    pub(crate) fn stall(&mut self, index: usize) -> Done {
        let this = &mut self.world.moves[index];
        if this.erasing != 1 || this.stalled {
            return None;
        }
        (this.erasing, this.stalled) = (0, true);
        Some(())
    }

    /// It goes on: destroying keys is no transaction under the lease.
    pub(crate) fn stalled_goes_on(&mut self, index: usize) -> Done {
        if !self.world.moves[index].stalled {
            return None;
        }
        self.world.moves[index].stalled = false;
        self.destroy_keys(index);
        Some(())
    }

    /// Closes the source's side with the other log's proof over its last statement: `app/close.rs`.
    pub(crate) fn close_source(&mut self, index: usize) -> Done {
        let there = self.world.moves[index].there?;
        let row = self.world.moves[index].source?;
        if row.lanes.peer_tip().map(|tip| tip.0) != Some(there.lanes.own_tip()) {
            return None;
        }
        let change = self.source_facts(index, None)?.close().ok()?;
        self.commit_source(index, change);
        Some(())
    }

    /// Another coordinator takes the lease once the first one's time is over.
    pub(crate) fn lease(&mut self, index: usize) -> Done {
        let row = self.world.moves[index].source?;
        if row.token >= self.bounds.coordinators || row.state.rests() {
            return None;
        }
        let mut row = domicile_transfer_protocol::Source::clone(&row);
        row.token += 1;
        self.world.moves[index].source = Some(keep_source(row, self.numbers));
        Some(())
    }

    /// An operator holds the transfer or lets it go on.
    pub(crate) fn pause(&mut self, index: usize) -> Done {
        let facts = self.source_facts(index, None)?;
        let change = if facts.row.paused { facts.resume("on") } else { facts.pause("off") };
        let mut change = change.ok()?;
        change.row.operator_reason = None;
        self.commit_source(index, change);
        Some(())
    }

    /// Whether the consent's row is there at all.
    pub(crate) fn consent_given(&self, index: usize) -> bool {
        self.world.moves[index].consent != Consent::None
    }

    /// The lanes of the side that states.
    pub(crate) fn lanes_of(&self, index: usize, source: bool) -> Option<&'static Lanes> {
        let this = self.world.moves[index];
        if source { this.source.map(|row| row.lanes()) } else { this.there.map(|row| row.lanes()) }
    }
}
