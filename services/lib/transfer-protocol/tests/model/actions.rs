//! Everything that may happen next. The coordinator is the worst one possible: it asks either region for any
//! step at any time, with any token it ever had, and brings any statement that was ever made, so that every
//! loss, repetition, reordering and delay of a message is one of the ways through.

use domicile_evidence::statement::AbortReason;
use domicile_transfer_protocol::plan::{Ask, Side};
use domicile_transfer_protocol::source::Standing;

use crate::bugs::Bug;
use crate::source_steps::{Done, Token};
use crate::world::{Key, ROWS, Tx, World};

/// One effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The client or a practice writes in a region.
    Write(usize),
    /// A legal hold is placed in a region, or released.
    Hold(usize),
    /// Every process of a region stops and starts again.
    Crash(usize),
    /// A backup is taken of the region that will be restored.
    Save,
    /// It is restored.
    Restore,
    /// It opens again.
    Reopen,
    /// Something of one transfer.
    Of(usize, Step),
}

/// What happens of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client asks.
    Request,
    /// The destination accepts.
    Accept,
    /// The source makes the offer.
    Offer,
    /// The client consents.
    Consent,
    /// The client withdraws.
    Withdraw,
    /// A driver gives up.
    Fail(Token),
    /// The time of offer and consent is over.
    Late,
    /// The source's clock ends what is over.
    Expire,
    /// The source's clock ends a freeze.
    Budget,
    /// What follows an abort at the source; a withdrawal is acknowledged.
    CleanUp,
    /// The travel key: look, store, commit.
    OpenBegin,
    /// Second effect.
    OpenStore,
    /// Third effect.
    OpenCommit(Token),
    /// The key pair: look, store, commit.
    PrepareBegin,
    /// Second effect.
    PrepareStore,
    /// Third effect.
    PrepareCommit(Token),
    /// The source sends a page past a revision.
    Send(u8),
    /// A page lands; it may land again.
    Land(usize),
    /// A page is lost.
    Lose(usize),
    /// Rows are compared and pulled again.
    Compare,
    /// The same, cut off after rows were dropped.
    CompareDrop,
    /// The source freezes.
    Freeze(Token),
    /// The destination computes its root.
    StageBegin,
    /// And signs it.
    StageCommit(Token),
    /// The destination refuses rows that exist.
    Refuse,
    /// The source computes its root and seals the release.
    ReleaseBegin,
    /// And completes.
    ReleaseCommit(Token),
    /// The roots differ.
    Mismatch(Token),
    /// The destination opens the release and stores the travel key.
    AdoptStore,
    /// And takes over.
    AdoptCommit,
    /// It seals again.
    RekeyRows,
    /// It destroys what travelled.
    RekeyDrop,
    /// It takes a backup.
    BackUp,
    /// It signs.
    RekeySign,
    /// The source begins to erase.
    EraseBegin,
    /// It destroys the keys.
    EraseKeys,
    /// It erases the rows.
    EraseRows,
    /// It looks through everything and signs.
    EraseSign,
    /// An erasing process stands still.
    Stall,
    /// And goes on.
    StallOver,
    /// The source closes.
    CloseSource,
    /// The destination closes.
    CloseThere,
    /// The destination drops an aborted attempt.
    PurgeDrop,
    /// And signs.
    PurgeSign,
    /// It looks again for what is left of one.
    Sweep,
    /// A whole step of the coordinator's, all its effects one after the other.
    Whole(Side, Ask, Token),
    /// A statement to the source: the next one, or (`true`) one it has.
    ToSource(bool),
    /// A statement to the destination, likewise.
    ToThere(bool),
    /// A statement from before a restore, to the source or (`false`) to the destination.
    Old(bool),
    /// Another attempt's last statement to the destination.
    Foreign(usize),
    /// Another coordinator takes the lease.
    Lease,
    /// An operator holds it or lets it go on.
    Pause,
    /// Only with a bug.
    Forget,
    /// Only with a bug.
    Overtaken,
}

/// Lists what may happen; what is listed may still be refused.
pub(crate) fn list(tx: &Tx<'_>, actions: &mut Vec<Action>) {
    let world = &tx.world;
    for (region, home) in world.homes.iter().enumerate() {
        let open = match home.standing {
            Some(Standing::Active) => true,
            Some(Standing::Frozen) => {
                tx.bounds.has(Bug::WrittenWhileFrozen) || tx.bounds.has(Bug::UnsentUnblocked)
            }
            _ => false,
        };
        if open && !home.closed && home.keys && home.rows.count_ones() < u32::from(tx.bounds.rows.1) {
            actions.push(Action::Write(region));
        }
        if (world.holds > 0 || home.held)
            && matches!(home.standing, Some(Standing::Active | Standing::Frozen))
        {
            actions.push(Action::Hold(region));
        }
        if tx.bounds.crashes {
            actions.push(Action::Crash(region));
        }
    }
    if tx.bounds.restored.is_some() {
        if world.old.is_none() {
            actions.extend([Action::Save, Action::Restore]);
        } else {
            actions.extend([Action::Reopen, Action::Of(0, Step::Old(true)), Action::Of(0, Step::Old(false))]);
        }
    }
    for index in 0..tx.bounds.legs.len() {
        if world.moves[index].source.is_none() {
            actions.push(Action::Of(index, Step::Request));
            break;
        }
        let mut steps = Vec::with_capacity(48);
        at_source(tx, index, &mut steps);
        at_destination(tx, index, &mut steps);
        actions.extend(steps.into_iter().map(|step| Action::Of(index, step)));
    }
}

fn at_source(tx: &Tx<'_>, index: usize, steps: &mut Vec<Step>) {
    let (bounds, this) = (tx.bounds, &tx.world.moves[index]);
    let tokens = 1..=this.source.map_or(0, |row| row.token);
    steps.extend([Step::Offer, Step::Consent, Step::CleanUp, Step::Budget, Step::CloseSource]);
    steps.extend([Step::ToSource(false), Step::ToSource(true)]);
    if bounds.effects {
        steps.extend([Step::OpenBegin, Step::OpenStore, Step::ReleaseBegin]);
        steps.extend([Step::EraseBegin, Step::EraseKeys, Step::EraseRows, Step::EraseSign]);
    }
    for token in tokens {
        steps.push(Step::Freeze(token));
        if bounds.effects {
            steps.extend([Step::OpenCommit(token), Step::ReleaseCommit(token), Step::Mismatch(token)]);
        } else {
            let asks = [Ask::OpenCopy, Ask::Release, Ask::Shred];
            steps.extend(asks.map(|ask| Step::Whole(Side::Source, ask, token)));
        }
        if bounds.failures {
            steps.push(Step::Fail(token));
        }
    }
    let mut when = |given: bool, step: Step| {
        if given {
            steps.push(step);
        }
    };
    when(bounds.withdrawals, Step::Withdraw);
    when(bounds.deadlines && !this.late, Step::Late);
    when(this.late, Step::Expire);
    when(bounds.stalls, Step::Stall);
    when(this.stalled, Step::StallOver);
    when(bounds.coordinators > 1, Step::Lease);
    when(bounds.pauses, Step::Pause);
}

fn at_destination(tx: &Tx<'_>, index: usize, steps: &mut Vec<Step>) {
    let (bounds, this) = (tx.bounds, &tx.world.moves[index]);
    steps.push(Step::ToThere(false));
    let Some(row) = this.there else {
        if bounds.has(Bug::AbortOvertakes) {
            steps.push(Step::Overtaken);
        }
        return;
    };
    steps.extend([Step::Accept, Step::CloseThere, Step::Sweep, Step::ToThere(true)]);
    steps.extend((0..bounds.legs.len()).filter(|other| *other != index).map(Step::Foreign));
    if bounds.has(Bug::NoTombstone) {
        steps.push(Step::Forget);
    }
    let tokens = 1..=this.source.map_or(0, |row| row.token);
    if !bounds.effects {
        let asks = [Ask::Prepare, Ask::Pull, Ask::Stage, Ask::Adopt, Ask::Rekey, Ask::Purge];
        let whole = |token| asks.map(|ask| Step::Whole(Side::Destination, ask, token));
        steps.extend(tokens.flat_map(whole));
        return;
    }
    steps.extend([
        Step::PrepareBegin,
        Step::PrepareStore,
        Step::Compare,
        Step::CompareDrop,
        Step::StageBegin,
    ]);
    steps.extend([Step::Refuse, Step::AdoptStore, Step::AdoptCommit, Step::RekeyRows, Step::RekeyDrop]);
    steps.extend([Step::BackUp, Step::RekeySign, Step::PurgeDrop, Step::PurgeSign]);
    steps.extend(tokens.flat_map(|token| [Step::PrepareCommit(token), Step::StageCommit(token)]));
    let free = this.pages[..bounds.pages].iter().any(Option::is_none);
    if free && this.travel_key != Key::None {
        let cursor = crate::rows::small(row.cursor);
        steps.push(Step::Send(cursor));
        if cursor > 0 {
            steps.push(Step::Send(0));
        }
    }
    for (slot, _) in this.pages.iter().enumerate().filter(|(_, page)| page.is_some()) {
        steps.extend([Step::Land(slot), Step::Lose(slot)]);
    }
}

impl Tx<'_> {
    /// Takes an action; `None` when it was refused.
    pub(crate) fn take(&mut self, action: Action) -> Done {
        match action {
            Action::Write(region) => self.write(region),
            Action::Hold(region) => self.hold(region),
            Action::Crash(region) => self.crash(region),
            Action::Save => self.save(),
            Action::Restore => self.restore(),
            Action::Reopen => self.reopen(),
            Action::Of(index, step) => self.step(index, step),
        }
    }

    /// A write: the revision rises in the row a freeze changes, and the row is there with it.
    fn write(&mut self, region: usize) -> Done {
        let home = self.home(region);
        let row = (0..ROWS).find(|row| home.rows & 1 << row == 0)?;
        home.rows |= 1 << row;
        if home.standing == Some(Standing::Active) {
            home.revision += 1;
        }
        self.world.acknowledged |= 1 << row;
        Some(())
    }

    /// A hold is a control row.
    fn hold(&mut self, region: usize) -> Done {
        let placed = !self.world.homes[region].held;
        if placed {
            self.world.holds = self.world.holds.checked_sub(1)?;
        }
        let home = self.home(region);
        (home.held, home.control) = (placed, home.control + 1);
        Some(())
    }

    /// What processes had in memory is gone.
    pub(crate) fn crash(&mut self, region: usize) -> Done {
        for index in 0..self.bounds.legs.len() {
            let (from, to) = self.bounds.leg(index);
            let this = &mut self.world.moves[index];
            if from == region {
                (this.making_travel, this.inputs, this.erasing, this.stalled) = (0, None, 0, false);
            }
            if to == region {
                (this.making_private, this.claim, this.purged) = (0, None, false);
            }
        }
        Some(())
    }

    /// One step of one transfer.
    pub(crate) fn step(&mut self, index: usize, step: Step) -> Done {
        // A region that was restored and has not opened takes no step and hears nobody.
        let (from, to) = self.bounds.leg(index);
        let closed = |region: usize| self.world.homes[region].closed;
        match step {
            Step::Old(_) | Step::Late => {}
            Step::Whole(side, ..) if closed(if side == Side::Source { from } else { to }) => return None,
            Step::Whole(..) => {}
            step if closed(if at_destination_only(step) { to } else { from }) => return None,
            _ => {}
        }
        match step {
            Step::Request => self.request(index),
            Step::Offer => self.preflight_here(index),
            Step::Consent => self.consent(index),
            Step::Withdraw => self.abort(index, AbortReason::Withdrawn, None),
            Step::Fail(token) => self.abort(index, AbortReason::Failed, Some(token)),
            Step::Late => {
                let open = self.world.moves[index].source?.state.withdrawable();
                self.world.moves[index].late = true;
                open.then_some(())
            }
            Step::Expire => self.expire(index),
            Step::Budget => self.budget(index),
            Step::CleanUp => self.clean_up(index),
            Step::OpenBegin => self.open_begin(index),
            Step::OpenStore => self.open_store(index),
            Step::OpenCommit(token) => self.open_commit(index, token),
            Step::Freeze(token) => self.freeze(index, token),
            Step::ReleaseBegin => self.release_begin(index),
            Step::ReleaseCommit(token) => self.release_commit(index, token),
            Step::Mismatch(token) => self.mismatch(index, token),
            Step::EraseBegin => self.erase_begin(index),
            Step::EraseKeys => self.erase_keys(index),
            Step::EraseRows => self.erase_rows(index),
            Step::EraseSign => self.erase_sign(index),
            Step::Stall => self.stall(index),
            Step::StallOver => self.stalled_goes_on(index),
            Step::CloseSource => self.close_source(index),
            Step::ToSource(again) => {
                let held = self.world.moves[index].source?.lanes.peer_sequence();
                self.deliver(index, true, if again { held } else { held + 1 })
            }
            Step::Lease => self.lease(index),
            Step::Pause => self.pause(index),
            Step::Whole(side, ask, token) => {
                self.ask(index, side, ask, token);
                Some(())
            }
            other => self.step_there(index, other),
        }
    }

    fn step_there(&mut self, index: usize, step: Step) -> Done {
        match step {
            Step::Accept => self.accept(index),
            Step::PrepareBegin => self.prepare_begin(index),
            Step::PrepareStore => self.prepare_store(index),
            Step::PrepareCommit(token) => self.prepare_commit(index, token),
            Step::Send(after) => {
                let slot = self.world.moves[index].pages.iter().position(Option::is_none)?;
                let page = self.send(index, after, None)?;
                // Whoever pulls has the lease; what another one has computed is not committed any more.
                self.world.moves[index].claim = None;
                self.world.moves[index].pages[slot] = Some(page);
                Some(())
            }
            Step::Land(slot) => {
                let page = self.world.moves[index].pages[slot]?;
                self.land(index, &page)
            }
            Step::Lose(slot) => self.world.moves[index].pages[slot].take().map(drop),
            Step::Compare => self.compare(index),
            Step::CompareDrop => self.compare_drop(index),
            Step::StageBegin => self.stage_begin(index),
            Step::StageCommit(token) => self.stage_commit(index, token),
            Step::Refuse => self.refuse(index),
            Step::AdoptStore => self.adopt_store(index),
            Step::AdoptCommit => self.adopt_commit(index),
            Step::RekeyRows => self.rekey_rows(index),
            Step::RekeyDrop => self.rekey_drop(index),
            Step::BackUp => self.back_up(index),
            Step::RekeySign => self.rekey_sign(index),
            Step::CloseThere => self.close_there(index),
            Step::PurgeDrop => self.purge_drop(index),
            Step::PurgeSign => self.purge_sign(index),
            Step::Sweep => self.sweep(index),
            Step::ToThere(again) => {
                let held = self.world.moves[index].there.map_or(0, |row| row.lanes.peer_sequence());
                self.deliver(index, false, if again { held } else { held + 1 })
            }
            Step::Old(to_source) => self.deliver_old(to_source),
            Step::Foreign(other) => self.deliver_foreign(index, other),
            Step::Forget => self.forget(index),
            Step::Overtaken => self.overtaken(index),
            _ => None,
        }
    }
}

/// Whether a step is the destination's.
const fn at_destination_only(step: Step) -> bool {
    use Step as S;
    let takes_over = matches!(step, S::AdoptStore | S::AdoptCommit | S::RekeyRows | S::RekeyDrop | S::BackUp);
    let prepares = matches!(step, S::Accept | S::PrepareBegin | S::PrepareStore | S::PrepareCommit(_));
    let copies = matches!(step, S::Send(_) | S::Land(_) | S::Lose(_) | S::Compare | S::CompareDrop);
    let ends = matches!(step, S::RekeySign | S::CloseThere | S::PurgeDrop | S::PurgeSign | S::Sweep);
    let stages = matches!(step, S::StageBegin | S::StageCommit(_) | S::Refuse);
    takes_over || prepares || copies || ends || stages || matches!(step, S::ToThere(_) | S::Foreign(_))
}

/// The world before anything has happened: a record at home in the first region.
pub(crate) fn beginning(tx: &Tx<'_>) -> World {
    let mut world = tx.world;
    let home = &mut world.homes[0];
    home.standing = Some(Standing::Active);
    home.epoch = 1;
    home.revision = tx.bounds.rows.0;
    home.rows = (1 << tx.bounds.rows.0) - 1;
    home.keys = true;
    world.acknowledged = home.rows;
    world.holds = tx.bounds.holds;
    world
}
