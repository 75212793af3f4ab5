//! The thin world round the protocol's functions: what the two regions' databases, key stores and processes
//! hold, and what each named transaction of the store does with a decision. The decisions are the protocol's.

use domicile_evidence::statement::Body;
use domicile_transfer_protocol::source::{ConsentChange, ResidencyChange, StagedClaim, Standing};
use domicile_transfer_protocol::store::Driver;
use domicile_transfer_protocol::{
    ConsentFacts, Destination, DestinationChange, DestinationFacts, Digest, Numbers, ResidencyFacts, Source,
    SourceChange, SourceFacts, State,
};
use domicile_types::Timestamp;
use std::time::Duration;

use crate::bugs::Bug;
use crate::restore::Saved;
use crate::rows::{
    CONSENT, Kept, NOW, OFFER, Stating, consent, end, keep_destination, keep_source, region, small, state,
    subject,
};

/// Transfers a world may see, one after the other.
pub(crate) const MOVES: usize = 3;
/// Rows a record may have; the row at index `i` is written at revision `i + 1`.
pub(crate) const ROWS: usize = 3;

/// By row: under which sealing it travels; 0 where it does not. A row sealed again is another sealing.
pub(crate) type Seals = [u8; ROWS];

/// A key made for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Key {
    /// Not there: never made, or destroyed.
    #[default]
    None,
    /// Made, and nothing was ever sealed under it or to it.
    Fresh,
    /// Rows were sealed under it; its public half was signed.
    Used,
}

/// The consent's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Consent {
    /// None was given.
    #[default]
    None,
    /// It holds.
    Active,
    /// The client withdrew it.
    Withdrawn,
    /// Its time was over, or the transfer failed or was ended.
    Expired,
    /// The transfer completed under it.
    Completed,
}

/// One region's residency row, items, objects and record keys of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Home {
    /// The standing; `None` where the region never had the record.
    pub(crate) standing: Option<Standing>,
    /// Whether reads are answered with MOVED.
    pub(crate) moved: bool,
    /// The epoch.
    pub(crate) epoch: u8,
    /// The counter of writes.
    pub(crate) revision: u8,
    /// The counter of control rows.
    pub(crate) control: u8,
    /// The counter of transfers.
    pub(crate) attempt: u8,
    /// Which rows are in the tables.
    pub(crate) rows: u8,
    /// Whether the record's keys are in the key store.
    pub(crate) keys: bool,
    /// The transfer under whose travel key the payloads still are, counted from 1; 0 for none.
    pub(crate) travelling: u8,
    /// Whether a legal hold stands.
    pub(crate) held: bool,
    /// Whether the region was restored and serves nothing yet.
    pub(crate) closed: bool,
}

/// A page between the regions, or a late copy of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Page {
    /// Its rows.
    pub(crate) seals: Seals,
    /// The revision up to which it makes the destination complete.
    pub(crate) cursor: u8,
    /// The record's revision when it was made.
    pub(crate) revision: u8,
}

/// What a process of the destination has computed and not yet committed as Staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    /// Under which freeze.
    pub(crate) freeze: u8,
    /// Its final revision.
    pub(crate) last: u8,
    /// What was staged.
    pub(crate) seals: Seals,
}

/// What a process of the source has computed and sealed and not yet committed as Released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inputs {
    /// Under which freeze.
    pub(crate) freeze: u8,
    /// The source's own root.
    pub(crate) seals: Seals,
    /// The control rows' revision at which they were sealed.
    pub(crate) control: u8,
}

/// One transfer: rows, keys and processes' memory of both regions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Move {
    /// The source's row.
    pub(crate) source: Option<Kept<Source>>,
    /// The destination's row.
    pub(crate) there: Option<Kept<Destination>>,
    /// The consent's row, at the source.
    pub(crate) consent: Consent,
    /// Whether the time of offer and consent is over.
    pub(crate) late: bool,
    /// The source's travel key.
    pub(crate) travel_key: Key,
    /// A process of the source that makes it: 1 has looked at the state, 2 has stored the key.
    pub(crate) making_travel: u8,
    /// The attempt's private key at the destination.
    pub(crate) private_key: Key,
    /// A process of the destination that makes it, likewise.
    pub(crate) making_private: u8,
    /// The travel key at the destination, from adoption to re-keying.
    pub(crate) travel_key_there: bool,
    /// The key release kept for the destination: the control rows' revision in it.
    pub(crate) release: Option<u8>,
    /// Digests stored at the source.
    pub(crate) sent: Seals,
    /// Rows staged at the destination.
    pub(crate) staged: Seals,
    /// Pages on their way.
    pub(crate) pages: [Option<Page>; 2],
    /// The destination's uncommitted Staged.
    pub(crate) claim: Option<Claim>,
    /// The source's uncommitted Released.
    pub(crate) inputs: Option<Inputs>,
    /// A process of the destination that purges has destroyed and dropped everything.
    pub(crate) purged: bool,
    /// A process of the source that erases: 1 has begun, 2 has destroyed the keys, 3 the rows.
    pub(crate) erasing: u8,
    /// A process that had begun to erase and whose lease went to another while it stood still.
    pub(crate) stalled: bool,
    /// Whether the record's keys at the source were destroyed for this transfer.
    pub(crate) erased: bool,
    /// Whether a backup at the destination covers the adopted record.
    pub(crate) backup: bool,
    /// Whether a withdrawal was acknowledged to the client.
    pub(crate) acknowledged: bool,
    /// Entries in the logs: by region that logs, by region that stated (source 0, destination 1).
    pub(crate) logs: [[u8; 2]; 2],
}

/// The source's and the destination's row of one transfer.
pub(crate) type Rows = (Option<Kept<Source>>, Option<Kept<Destination>>);

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct World {
    /// The regions.
    pub(crate) homes: [Home; 2],
    /// The transfers.
    pub(crate) moves: [Move; MOVES],
    /// Rows whose writes were acknowledged.
    pub(crate) acknowledged: u8,
    /// Legal holds that may still be placed.
    pub(crate) holds: u8,
    /// The backup a region will be restored from.
    pub(crate) saved: Option<Kept<Saved>>,
    /// What the coordinator had read of the first transfer before the restore.
    pub(crate) old: Option<Rows>,
    /// What went wrong in a step, one bit a kind; see [`Broken`].
    pub(crate) broken: u16,
}

/// What a step did that no later state would show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Broken {
    /// A step was committed for a driver behind the highest token seen, or for another attempt.
    StaleDriver = 1,
    /// An epoch did not rise.
    Epoch = 2,
    /// Rows left the source without an active, unexpired consent for the attempt.
    NoConsent = 4,
    /// Released was committed without one.
    ReleasedWithout = 8,
    /// What was adopted is not what was frozen, or not everything that was acknowledged.
    Adopted = 16,
    /// A sealed key was opened with a key of another attempt.
    WrongKey = 32,
    /// Released or erased under a legal hold.
    Held = 64,
    /// A late message changed something at a destination that has aborted.
    Late = 128,
    /// Control rows that were acknowledged before Released did not arrive.
    Control = 256,
    /// An attempt's number was given twice.
    AttemptReused = 512,
}

/// What bounds a model, and which faults it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// From which region each transfer goes; it goes to the other one.
    pub(crate) legs: &'static [usize],
    /// Rows the record has at first, and at most.
    pub(crate) rows: (u8, u8),
    /// Legal holds placed at any point.
    pub(crate) holds: u8,
    /// The client withdraws at any point.
    pub(crate) withdrawals: bool,
    /// Deadlines pass at any point.
    pub(crate) deadlines: bool,
    /// A driver gives up at any point.
    pub(crate) failures: bool,
    /// Freezes that run out before the transfer ends; 1 for none that fall back.
    pub(crate) freezes: u32,
    /// Differing roots before the transfer ends.
    pub(crate) mismatches: u32,
    /// Pages on their way at once.
    pub(crate) pages: usize,
    /// Coordinators with a lease one after the other.
    pub(crate) coordinators: u64,
    /// Steps are cut between any two of their effects; else only between steps, and pages are not left on their way.
    pub(crate) effects: bool,
    /// Processes stop at any point.
    pub(crate) crashes: bool,
    /// A process of the source stands still while it erases.
    pub(crate) stalls: bool,
    /// An operator holds the transfer.
    pub(crate) pauses: bool,
    /// The store lets the way back be asked for before the way there is closed.
    pub(crate) early: bool,
    /// Which region is restored from an older backup, at any point.
    pub(crate) restored: Option<usize>,
    /// The injected bug.
    pub(crate) bug: Option<Bug>,
}

impl Bounds {
    /// The protocol's numbers within these bounds.
    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            freeze_tries: self.freezes,
            mismatches: self.mismatches,
            freeze_lag_rows: 1,
            offer_open: Duration::from_secs(72 * 3600),
            ..Numbers::default()
        }
    }

    /// Whether this bug is injected.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The regions of a transfer: from, to.
    pub(crate) fn leg(&self, index: usize) -> (usize, usize) {
        let from = self.legs[index];
        (from, 1 - from)
    }
}

/// Rows as a set of bits.
pub(crate) fn mask(seals: &Seals) -> u8 {
    (0..ROWS).filter(|row| seals[*row] != 0).fold(0, |mask, row| mask | 1 << row)
}

/// The root over sealed rows: the sealings themselves, so that equal roots are equal rows.
pub(crate) fn root(seals: &Seals) -> Digest {
    let mut digest = [0; 32];
    digest[..ROWS].copy_from_slice(seals);
    digest[31] = 1;
    Digest(digest)
}

/// The sealings back out of a root.
pub(crate) fn seals_of(root: &Digest) -> Seals {
    let mut seals = [0; ROWS];
    seals.copy_from_slice(&root.0[..ROWS]);
    seals
}

/// The digest of the key release with the control rows at this revision.
pub(crate) fn release_digest(control: u8) -> Digest {
    Digest([control; 32])
}

/// A world with its bounds: everything a transaction needs.
#[derive(Clone, Copy)]
pub(crate) struct Tx<'a> {
    /// The bounds.
    pub(crate) bounds: &'a Bounds,
    /// The protocol's numbers.
    pub(crate) numbers: &'a Numbers,
    /// The world, changed in place.
    pub(crate) world: World,
}

impl Tx<'_> {
    /// The present instant for a transfer.
    pub(crate) fn now(&self, index: usize) -> Timestamp {
        if self.world.moves[index].late { end(self.numbers).plus(Duration::from_secs(1)) } else { NOW }
    }

    /// The source's home, to be changed.
    pub(crate) fn home(&mut self, region: usize) -> &mut Home {
        &mut self.world.homes[region]
    }

    /// Notes what no later state would show.
    pub(crate) fn note(&mut self, broken: Broken) {
        self.world.broken |= broken as u16;
    }

    /// The source's row in a state.
    pub(crate) fn source_state(&self, index: usize) -> Option<State> {
        self.world.moves[index].source.map(|row| row.state)
    }

    /// The destination's row in a state.
    pub(crate) fn there_state(&self, index: usize) -> Option<State> {
        self.world.moves[index].there.map(|row| row.state)
    }

    /// Whether a region's statements come after its restore, and so are others than before.
    fn again(&self, region: usize) -> u8 {
        u8::from(self.world.old.is_some() && self.bounds.restored == Some(region))
    }

    /// Whether the consent truly holds, whatever a transaction was told.
    pub(crate) fn consented(&self, index: usize) -> bool {
        let this = &self.world.moves[index];
        this.consent == Consent::Active && !this.late
    }

    /// What a deciding transaction of the source sees, its driver checked: the store's `Deciding::run`.
    pub(crate) fn source_facts(&mut self, index: usize, driver: Option<u64>) -> Option<SourceFacts> {
        let (from, to) = self.bounds.leg(index);
        let this = self.world.moves[index];
        let mut row = Source::clone(&*this.source?);
        if let Some(token) = driver {
            if (Driver { attempt: row.attempt, token }).check(row.attempt, row.token).is_err() {
                if !self.bounds.has(Bug::StaleToken) {
                    return None;
                }
                self.note(Broken::StaleDriver);
            }
            row.token = token.max(row.token);
        }
        let home = self.world.homes[from];
        let given = (this.consent != Consent::None).then(|| ConsentFacts {
            id: consent(index),
            subject: subject(),
            attempt: row.attempt,
            destination: region(to).clone(),
            offer: OFFER,
            active: this.consent == Consent::Active,
            expires_at: end(self.numbers),
        });
        let residency = ResidencyFacts {
            epoch: home.epoch.into(),
            standing: home.standing?,
            revision: home.revision.into(),
            control_revision: home.control.into(),
        };
        Some(SourceFacts { row, consent: given, residency, held: home.held, now: self.now(index) })
    }

    /// Commits a decision of the source: the store's `Deciding::apply`.
    pub(crate) fn commit_source(&mut self, index: usize, change: SourceChange) {
        let (from, _) = self.bounds.leg(index);
        let mut row = change.row;
        let before = self.source_state(index);
        if change.accept.is_some() {
            self.world.moves[index].logs[0][1] += 1;
        }
        let lost = self.bounds.has(Bug::StatementLost) && matches!(change.emit, Some(Body::Released { .. }));
        if let Some(body) = change.emit.as_ref().filter(|_| !lost) {
            let whose = Stating { transfer: index, attempt: row.attempt, origin: from };
            state(whose, &mut row.lanes, body, self.again(from));
            self.world.moves[index].logs[0][0] += 1;
        }
        if row.state == State::Released && before != Some(State::Released) {
            self.check_release(index);
        }
        let this = &mut self.world.moves[index];
        match change.consent {
            Some(ConsentChange::Withdraw) => this.consent = Consent::Withdrawn,
            Some(ConsentChange::Expire) => this.consent = Consent::Expired,
            Some(ConsentChange::Complete) => this.consent = Consent::Completed,
            None => {}
        }
        if row.consent.is_some() && this.consent == Consent::None {
            this.consent = Consent::Active;
        }
        if change.key_release.is_some() {
            this.release = this.inputs.map(|inputs| inputs.control);
        }
        if let Some(to) = &change.residency {
            self.reside(from, to);
        }
        self.world.moves[index].source = Some(keep_source(row, self.numbers));
    }

    fn check_release(&mut self, index: usize) {
        if !self.consented(index) {
            self.note(Broken::ReleasedWithout);
        }
        if self.world.homes[self.bounds.leg(index).0].held {
            self.note(Broken::Held);
        }
    }

    /// The residency's row after a change: the store's `moved`.
    fn reside(&mut self, region: usize, change: &ResidencyChange) {
        let home = &mut self.world.homes[region];
        let before = home.epoch;
        match change {
            ResidencyChange::Freeze => home.standing = Some(Standing::Frozen),
            ResidencyChange::Unfreeze => home.standing = Some(Standing::Active),
            ResidencyChange::Release { epoch } => {
                home.standing = Some(Standing::Released);
                home.epoch = small(*epoch);
            }
            ResidencyChange::Moved { .. } => home.moved = true,
            ResidencyChange::Depart { .. } => {
                home.standing = Some(Standing::Departed);
                home.moved = true;
            }
        }
        let rises = matches!(change, ResidencyChange::Release { .. });
        if home.epoch < before || (rises && home.epoch == before) {
            self.note(Broken::Epoch);
        }
    }

    /// What a deciding transaction of the destination sees: the store's `locked`.
    pub(crate) fn there_facts(&mut self, index: usize, driver: Option<u64>) -> Option<DestinationFacts> {
        let mut row = Destination::clone(&*self.world.moves[index].there?);
        if let Some(token) = driver {
            if (Driver { attempt: row.attempt, token }).check(row.attempt, row.token).is_err() {
                if !self.bounds.has(Bug::StaleToken) {
                    return None;
                }
                self.note(Broken::StaleDriver);
            }
            row.token = token.max(row.token);
        }
        Some(DestinationFacts { row, now: self.now(index) })
    }

    /// Commits a decision of the destination: the store's `apply`.
    pub(crate) fn commit_there(&mut self, index: usize, change: DestinationChange) {
        let (_, to) = self.bounds.leg(index);
        let mut row = change.row;
        if change.accept.is_some() {
            self.world.moves[index].logs[1][0] += 1;
        }
        if let Some(body) = &change.emit {
            let whose = Stating { transfer: index, attempt: row.attempt, origin: to };
            state(whose, &mut row.lanes, body, self.again(to));
            self.world.moves[index].logs[1][1] += 1;
        }
        if self.there_state(index) == Some(State::Aborted) {
            self.note(Broken::Late);
        }
        self.world.moves[index].there = Some(keep_destination(row));
    }

    /// What the destination says it has staged.
    pub(crate) fn staged_claim(&self, claim: &Claim) -> StagedClaim {
        let rows = mask(&claim.seals).count_ones();
        StagedClaim {
            freeze: claim.freeze.into(),
            final_revision: claim.last.into(),
            rows: rows.into(),
            objects: 0,
            bytes: rows.into(),
            root: root(&claim.seals),
        }
    }

    /// A sealing of a row that nothing of the transfer names any more.
    pub(crate) fn fresh_seal(&self, index: usize, row: usize) -> u8 {
        let this = &self.world.moves[index];
        let pages = this.pages.iter().flatten().map(|page| page.seals[row]);
        let roots = [
            this.source.and_then(|source| source.staged.as_ref().map(|staged| staged.root)),
            this.there.and_then(|there| there.staged.as_ref().map(|staged| staged.root)),
            this.there.and_then(|there| there.released.map(|released| released.root)),
        ];
        let roots = roots.iter().flatten().map(|root| seals_of(root)[row]);
        let memory = [this.claim.map(|claim| claim.seals[row]), this.inputs.map(|inputs| inputs.seals[row])];
        let used: Vec<u8> = pages
            .chain(roots)
            .chain(memory.into_iter().flatten())
            .chain([this.sent[row], this.staged[row]])
            .collect();
        (1..).find(|seal| !used.contains(seal)).expect("a number is free")
    }

    /// What the consent binds, for statements.
    pub(crate) const fn consent_digest() -> Digest {
        CONSENT
    }
}
