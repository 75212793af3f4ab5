//! What the coordinator does next, from what both regions show. Pure: the same views, the same answer,
//! so that any number of coordinators agree.

use domicile_types::Timestamp;

use crate::state::State;

/// A transfer as one region shows it to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it stands there.
    pub state: State,
    /// The last sequence number of that region's own lane.
    pub own_sequence: u64,
    /// The last sequence number it holds of the other lane.
    pub peer_sequence: u64,
    /// Source: so few rows and no object are still to be sent that a freeze may begin.
    pub close: bool,
    /// Whether a background step runs there.
    pub busy: bool,
    /// Destination: the revision up to which rows are there.
    pub cursor: u64,
    /// The source's revision, as far as that region knows.
    pub revision: u64,
    /// Destination: objects known and not there yet.
    pub objects_missing: u64,
    /// Destination: rows must be compared before a freeze.
    pub compare: bool,
    /// Held by an operator.
    pub paused: bool,
    /// Why that region cannot advance, as an error code.
    pub refused: Option<String>,
    /// Source: not to be frozen again before this.
    pub freeze_not_before: Timestamp,
}

/// One of the two regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where the record comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A step a region can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Only take in the other side's statements.
    Deliver,
    /// Source: gather totals, ask the destination, make the offer.
    Preflight,
    /// Destination: make the attempt's key pair.
    Prepare,
    /// Source: make the travel key.
    OpenCopy,
    /// Destination: pull in the background.
    Pull,
    /// Source: freeze.
    Freeze,
    /// Destination: pull the rest and sign.
    Stage,
    /// Source: compare and complete.
    Release,
    /// Destination: open and take over.
    Adopt,
    /// Destination: seal again.
    Rekey,
    /// Source: erase.
    Shred,
    /// Take in the other log's checkpoint.
    Close,
    /// Source: end what cannot be done.
    Abort,
    /// Destination: purge.
    Purge,
}

/// What a transfer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The client's decision.
    Client,
    /// An operator's resume.
    Operator,
    /// A background step.
    Background,
    /// The pause between freezes.
    Pause,
    /// Nothing: it rests.
    Rest,
}

/// The coordinator's next action for one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bring `to` the other side's statements it lacks, and ask it for a step, in one call.
    Call {
        /// Whom.
        to: Side,
        /// What for.
        ask: Ask,
    },
    /// Nothing to do until something changes.
    Wait(Wait),
}

const fn call(to: Side, ask: Ask) -> Next {
    Next::Call { to, ask }
}

/// Decides the next action. `destination` is `None` while that region does not know the transfer.
#[must_use]
pub fn next(source: &View, destination: Option<&View>, now: Timestamp) -> Next {
    let there = destination.map(|view| view.state);
    let lacks = Lacks::of(source, destination);
    if source.paused && source.state.pausable() {
        return lacks.deliver().unwrap_or(Next::Wait(Wait::Operator));
    }
    match source.state {
        State::Requested if source.busy => Next::Wait(Wait::Background),
        State::Requested => call(Side::Source, Ask::Preflight),
        State::Preflighted => lacks.deliver().unwrap_or(Next::Wait(Wait::Client)),
        State::Consented if there >= Some(State::Copying) => call(Side::Source, Ask::OpenCopy),
        State::Consented => call(Side::Destination, Ask::Prepare),
        State::Copying => copying(source, destination, lacks, now),
        State::Frozen if refused(destination) => call(Side::Source, Ask::Abort),
        State::Frozen if there == Some(State::Staged) => call(Side::Source, Ask::Release),
        State::Frozen => call(Side::Destination, Ask::Stage),
        State::Staged => call(Side::Source, Ask::Release),
        State::Released if there >= Some(State::Adopted) => call(Side::Source, Ask::Deliver),
        State::Released => call(Side::Destination, Ask::Adopt),
        State::Adopted if there >= Some(State::Rekeyed) => call(Side::Source, Ask::Shred),
        State::Adopted if busy(destination) => Next::Wait(Wait::Background),
        State::Adopted => call(Side::Destination, Ask::Rekey),
        State::Rekeyed if source.busy => Next::Wait(Wait::Background),
        State::Rekeyed => call(Side::Source, Ask::Shred),
        State::Shredded if lacks.destination => call(Side::Destination, Ask::Deliver),
        State::Shredded => call(Side::Source, Ask::Close),
        State::Closed if lacks.destination => call(Side::Destination, Ask::Deliver),
        State::Closed if there == Some(State::Shredded) => call(Side::Destination, Ask::Close),
        State::Aborting if there == Some(State::Aborted) => call(Side::Source, Ask::Deliver),
        State::Aborting => call(Side::Destination, Ask::Purge),
        State::Closed | State::Aborted => Next::Wait(Wait::Rest),
    }
}

fn copying(source: &View, destination: Option<&View>, lacks: Lacks, now: Timestamp) -> Next {
    if let Some(deliver) = lacks.deliver() {
        return deliver;
    }
    let Some(there) = destination else { return call(Side::Destination, Ask::Deliver) };
    if refused(destination) {
        return call(Side::Source, Ask::Abort);
    }
    if there.busy {
        return Next::Wait(Wait::Background);
    }
    let started = there.cursor > 0 || source.revision == 0;
    // What the source has sent may have been lost on the way: the destination's cursor counts too.
    let pulled = there.objects_missing == 0 && !there.compare && started;
    if !source.close || !pulled {
        call(Side::Destination, Ask::Pull)
    } else if source.freeze_not_before > now {
        Next::Wait(Wait::Pause)
    } else {
        call(Side::Source, Ask::Freeze)
    }
}

fn refused(view: Option<&View>) -> bool {
    view.is_some_and(|view| view.refused.is_some() && !view.busy)
}

fn busy(view: Option<&View>) -> bool {
    view.is_some_and(|view| view.busy)
}

/// Who lacks statements of the other side.
#[derive(Clone, Copy)]
struct Lacks {
    source: bool,
    destination: bool,
}

impl Lacks {
    fn of(source: &View, destination: Option<&View>) -> Self {
        let Some(there) = destination else { return Self { source: false, destination: false } };
        Self {
            source: there.own_sequence > source.peer_sequence,
            destination: source.own_sequence > there.peer_sequence,
        }
    }

    fn deliver(self) -> Option<Next> {
        if self.destination {
            Some(call(Side::Destination, Ask::Deliver))
        } else if self.source {
            Some(call(Side::Source, Ask::Deliver))
        } else {
            None
        }
    }
}
