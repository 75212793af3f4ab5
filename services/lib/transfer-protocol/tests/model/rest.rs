//! Against stuck states. From any state, once faults heal, the plan is followed to the end: processes start
//! again, nothing more is lost, holds are released, operators let go, nobody withdraws. Time goes on, so what
//! waits for the client ends by its deadline. Every transfer must come to rest Closed or Aborted on both
//! sides, the record active in one region with everything acknowledged in it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};

use domicile_evidence::statement::AbortReason;
use domicile_transfer_protocol::plan::{self, Ask, Next, Side, View, Wait};
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::{Destination, Source, State};

use domicile_types::Timestamp;

use crate::actions::Step;
use crate::world::{Tx, World, mask};

/// Calls of the coordinator within which every world must have come to rest.
const MOST: usize = 400;
const SHARDS: usize = 64;

/// Healed worlds that are known to end well, by their hash, so that paths which join are walked once.
static ENDS: LazyLock<Vec<Mutex<HashSet<u64>>>> =
    LazyLock::new(|| (0..SHARDS).map(|_| Mutex::default()).collect());

fn shard(hash: u64) -> &'static Mutex<HashSet<u64>> {
    &ENDS[usize::try_from(hash % SHARDS as u64).expect("few shards")]
}

fn known(hash: u64) -> bool {
    shard(hash).lock().unwrap_or_else(PoisonError::into_inner).contains(&hash)
}

/// Forgets what is known: with another bug the same world may end otherwise.
pub(crate) fn forget() {
    for shard in ENDS.iter() {
        shard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether every transfer ends once faults heal.
pub(crate) fn ends(tx: &Tx<'_>) -> bool {
    let mut tx = *tx;
    tx.heal();
    let mut walked = Vec::new();
    for _ in 0..MOST {
        let hash = hash(&tx);
        if known(hash) {
            return settle(walked);
        }
        walked.push(hash);
        match tx.go_on() {
            Went::On => {}
            Went::Rest => return tx.rests_well() && settle(walked),
            Went::Stuck => return false,
        }
    }
    false
}

fn settle(walked: Vec<u64>) -> bool {
    for hash in walked {
        shard(hash).lock().unwrap_or_else(PoisonError::into_inner).insert(hash);
    }
    true
}

fn hash(tx: &Tx<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    tx.world.hash(&mut hasher);
    tx.bounds.legs.hash(&mut hasher);
    (tx.bounds.freezes, tx.bounds.mismatches, tx.bounds.rows, tx.bounds.coordinators).hash(&mut hasher);
    hasher.finish()
}

enum Went {
    On,
    Rest,
    Stuck,
}

impl Tx<'_> {
    fn heal(&mut self) {
        for region in 0..2 {
            self.crash(region);
            self.home(region).held = false;
        }
        for this in &mut self.world.moves {
            this.pages = [None; 2];
        }
        // Nothing of it is wanted any more, and worlds that differ in it alone go the same way.
        self.world.holds = 0;
        self.world.broken = 0;
    }

    /// One call of the coordinator, or of the regions' own clocks and sweeps.
    fn go_on(&mut self) -> Went {
        for index in 0..self.bounds.legs.len() {
            let Some(source) = self.world.moves[index].source else { continue };
            let there = self.world.moves[index].there;
            let here = self.source_view(index, &source);
            let away = there.map(|row| Self::there_view(&row));
            let before = self.world;
            match plan::next(&here, away.as_ref(), self.now(index)) {
                Next::Wait(Wait::Rest) => {
                    // The regions' own sweeps go over what has ended.
                    self.clean_up(index);
                    self.sweep(index);
                    if self.world == before {
                        continue;
                    }
                }
                Next::Wait(Wait::Operator) => {
                    self.pause(index);
                }
                Next::Wait(Wait::Client | Wait::Background | Wait::Pause) => {}
                Next::Call { to, ask } => {
                    let token = source.token;
                    self.bring(index, to);
                    self.ask(index, to, ask, token);
                }
            }
            if self.world != before {
                return Went::On;
            }
            // Nothing came of it. Time goes on: what has not completed is ended by its source's clock.
            self.world.moves[index].late |= source.state.withdrawable();
            return if self.expire(index).is_some() { Went::On } else { Went::Stuck };
        }
        Went::Rest
    }

    fn source_view(&self, index: usize, row: &Source) -> View {
        let home = &self.world.homes[self.bounds.leg(index).0];
        let unsent = home.rows & !mask(&self.world.moves[index].sent);
        let copying = row.state == State::Copying;
        View {
            state: row.state,
            own_sequence: row.lanes.own_sequence(),
            peer_sequence: row.lanes.peer_sequence(),
            close: copying && u64::from(unsent.count_ones()) <= self.numbers.freeze_lag_rows,
            busy: false,
            cursor: 0,
            revision: if copying { home.revision.into() } else { 0 },
            objects_missing: 0,
            compare: false,
            paused: row.paused,
            refused: None,
            freeze_not_before: row.freeze_not_before,
        }
    }

    fn there_view(row: &Destination) -> View {
        View {
            state: row.state,
            own_sequence: row.lanes.own_sequence(),
            peer_sequence: row.lanes.peer_sequence(),
            close: false,
            busy: false,
            cursor: row.cursor,
            revision: row.revision,
            objects_missing: 0,
            compare: row.compare,
            paused: false,
            refused: row.refused.clone(),
            freeze_not_before: Timestamp::EPOCH,
        }
    }

    /// Brings a side every statement it lacks, as long as it takes them.
    fn bring(&mut self, index: usize, to: Side) {
        let step = if to == Side::Source { Step::ToSource(false) } else { Step::ToThere(false) };
        while self.step(index, step).is_some() {}
    }

    /// One step asked of a region, all its effects one after the other.
    pub(crate) fn ask(&mut self, index: usize, to: Side, ask: Ask, token: u64) {
        let steps: &[Step] = match ask {
            Ask::Deliver if to == Side::Source => &[Step::CleanUp],
            Ask::Deliver => &[],
            Ask::Preflight => &[Step::ToThere(false), Step::Accept, Step::Offer],
            Ask::Prepare => &[Step::PrepareBegin, Step::PrepareStore, Step::PrepareCommit(token)],
            Ask::OpenCopy => &[Step::OpenBegin, Step::OpenStore, Step::OpenCommit(token)],
            Ask::Pull => return self.pull(index),
            Ask::Freeze => &[Step::Freeze(token)],
            Ask::Stage => {
                if self.world.moves[index].there.is_some_and(|row| row.state == State::Frozen) {
                    self.pull(index);
                }
                &[Step::StageBegin, Step::StageCommit(token), Step::Refuse]
            }
            Ask::Release => &[Step::ReleaseBegin, Step::ReleaseCommit(token), Step::Mismatch(token)],
            Ask::Adopt => &[Step::AdoptStore, Step::AdoptCommit],
            Ask::Rekey => &[Step::RekeyRows, Step::RekeyDrop, Step::BackUp, Step::RekeySign],
            Ask::Shred => &[Step::EraseBegin, Step::EraseKeys, Step::EraseRows, Step::EraseSign],
            Ask::Close if to == Side::Source => &[Step::CloseSource],
            Ask::Close => &[Step::CloseThere],
            Ask::Abort => {
                self.abort(index, AbortReason::Failed, Some(token));
                &[Step::CleanUp]
            }
            Ask::Purge => &[Step::PurgeDrop, Step::PurgeSign],
        };
        for step in steps {
            self.step(index, *step);
        }
    }

    /// Pulls until nothing more is missing: `pull_until_close` and `pull_up_to`.
    fn pull(&mut self, index: usize) {
        self.compare(index);
        let Some(row) = self.world.moves[index].there else { return };
        if row.compare {
            return;
        }
        let cursor = crate::rows::small(row.cursor);
        let (from, _) = self.bounds.leg(index);
        let started = cursor > 0 && self.world.homes[from].revision <= cursor;
        if started && row.state == State::Frozen {
            return;
        }
        if let Some(page) = self.send(index, cursor, None) {
            self.land(index, &page);
        }
    }

    /// At rest: one home, everything acknowledged in it, both sides agreed.
    fn rests_well(&self) -> bool {
        let world: &World = &self.world;
        let home = world.homes.iter().filter(|home| home.standing == Some(Standing::Active));
        let whole = |home: &&crate::world::Home| {
            home.keys && home.rows & world.acknowledged == world.acknowledged && home.travelling == 0
        };
        let mut moves = world.moves.iter().filter_map(|this| Some((this.source?, this.there)));
        home.filter(whole).count() == 1
            && moves.all(|(source, there)| {
                there.is_some_and(|there| there.state == source.state && source.state.rests())
            })
    }
}
