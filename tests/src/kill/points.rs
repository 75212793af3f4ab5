//! Every effect of every step, by the process in which it happens. A test compares these lists with what a
//! transfer and an abort really pass.

/// The process in which an effect happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The coordinator.
    Coordinator,
    /// The source region.
    Source,
    /// The destination region.
    Destination,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Coordinator, Self::Source, Self::Destination];

    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// What happens to the record meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// It moves.
    Move,
    /// The client withdraws when everything is copied.
    Abort,
}

impl Path {
    /// The word in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Abort => "abort",
        }
    }
}

/// Effects of any region at any time: of no step of a transfer, or only of the first transfer in a region. The
/// log's checkpoints belong to a step only where it closes.
pub const BESIDE: &[&str] = &[
    "audit.lease",
    "audit.register",
    "item.put",
    "keys.practice_add",
    "replica.beat",
    "replica.join",
    "session.open",
    "session.touch",
    "sign_in.right",
    "sign_in.try",
    "transfer_work_renew",
    // Only on a machine that is slow: a freeze that runs out, what follows it, and notes of what waits.
    "audit.demand",
    "peer.digests",
    "receive_other",
    "replica.dropped",
    "transfer_blocked",
    "transfer_compared",
    "transfer_drop_staged",
    "transfer_mismatch",
    "transfer_stuck",
    "transfer_tend",
];

/// The effects of one process on one path, in the order of the steps. On PostgreSQL; where the databases
/// are files see [`ON_FILES`].
#[must_use]
pub const fn effects(role: Role, path: Path) -> &'static [&'static str] {
    match (role, path) {
        (Role::Coordinator, Path::Move) => COORDINATOR,
        (Role::Coordinator, Path::Abort) => &["ask.purge", "ask.deliver"],
        (Role::Source, Path::Move) => SOURCE,
        (Role::Source, Path::Abort) => SOURCE_ABORTS,
        (Role::Destination, Path::Move) => DESTINATION,
        (Role::Destination, Path::Abort) => DESTINATION_ABORTS,
    }
}

/// On SQLite the destination takes a backup, and the log's head is a file: no object is made for it.
pub const ON_FILES: (&str, &str) = ("backup.take", "object.create");

const COORDINATOR: &[&str] = &[
    "ask.preflight",
    "ask.lease",
    "ask.prepare",
    "ask.open_copy",
    "ask.pull",
    "ask.freeze",
    "ask.stage",
    "ask.release",
    "ask.adopt",
    "ask.rekey",
    "ask.shred",
    "ask.deliver",
    "ask.close",
];

const SOURCE: &[&str] = &[
    "transfer_request",
    "transfer_lease",
    "peer.preflight",
    "transfer_preflighted",
    "transfer_consent",
    "receive_copying",
    "keys.transfer_add",
    "transfer_open_copy",
    "transfer_sent",
    "transfer_sent_object",
    "transfer_freeze",
    "receive_staged",
    "transfer_release",
    "receive_adopted",
    "replica.ask",
    "receive_rekeyed",
    "transfer_work",
    "transfer_erase_begin",
    "keys.subject_destroy",
    "keys.transfer_destroy",
    "object.delete",
    "transfer_erase",
    "replica.open",
    "transfer_shredded",
    "transfer_work_end",
    "transfer_checkpoint",
    "transfer_close",
    "audit.drain",
    "audit.checkpoint",
    "object.create",
];

const DESTINATION: &[&str] = &[
    "transfer_invite",
    "transfer_accept",
    "receive_preflighted",
    "receive_consented",
    "transfer_work",
    "keys.transfer_add",
    "transfer_prepare",
    "peer.pull_page",
    "transfer_page",
    "peer.pull_object",
    "object.create",
    "transfer_object",
    "receive_frozen",
    "transfer_stage",
    "receive_released",
    "peer.key_release",
    "keys.secret_put",
    "keys.record_add",
    "keys.record_use",
    "transfer_adopt",
    "transfer_rekey",
    "transfer_rekey_object",
    "keys.transfer_destroy",
    "replica.ask",
    "transfer_purge",
    "object.delete",
    "replica.open",
    "transfer_rekeyed",
    "transfer_work_end",
    "receive_shredded",
    "transfer_checkpoint",
    "transfer_close",
    "audit.drain",
    "audit.checkpoint",
];

const SOURCE_ABORTS: &[&str] = &[
    "transfer_abort",
    "keys.transfer_destroy",
    "replica.ask",
    "transfer_forget",
    "receive_aborted",
    "audit.drain",
];

const DESTINATION_ABORTS: &[&str] = &[
    "receive_aborting",
    "transfer_work",
    "keys.transfer_destroy",
    "transfer_purge",
    "object.delete",
    "transfer_purged",
    "transfer_work_end",
    "audit.drain",
];

/// The points around every effect of one process on one path.
#[must_use]
pub fn points(role: Role, path: Path) -> Vec<String> {
    let around = |effect: &&str| [format!("{effect}.before"), format!("{effect}.after")];
    effects(role, path).iter().flat_map(around).collect()
}
