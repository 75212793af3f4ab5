//! Deliberate bugs, each put into the world round the protocol's functions: facts forged before a decision,
//! a change left out after it, an effect out of its order. None is in the product's code.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A lane by subject: an earlier attempt's Aborting ends the present one.
    AttemptUnchecked,
    /// Released is committed although the consent's time is over.
    ReleasedWithoutConsent,
    /// Rows are sent without looking at the consent.
    SentUnchecked,
    /// The source erases after Adopted, before Rekeyed.
    ShredBeforeRekeyed,
    /// The record's counter is read after the rows, and the root is over what was sent.
    EarlyCursor,
    /// The roots of an earlier freeze release the present one.
    StaleAnswer,
    /// The hold is not looked at when releasing.
    ReleasedHeld,
    /// An abort that overtakes the start it aborts is answered as if all were done.
    AbortOvertakes,
    /// A purged attempt is forgotten.
    NoTombstone,
    /// The epoch stays as it was.
    EpochKept,
    /// A job writes to a frozen record, and a row without a digest is left out of the root.
    UnsentUnblocked,
    /// A job writes to a frozen record after the root was computed.
    WrittenWhileFrozen,
    /// Any token will do.
    StaleToken,
    /// The destination purges by itself.
    PurgedUnsigned,
    /// The travel key outlives a withdrawal.
    TravelKeyKept,
    /// The private key outlives a purge.
    PrivateKeyKept,
    /// A withdrawal does not see that Released has won.
    WithdrawnAfterReleased,
    /// A known statement is logged again.
    LoggedTwice,
    /// Released is committed without its statement.
    StatementLost,
    /// Rekeyed is signed before a backup covers the record.
    SignedBeforeBackup,
    /// An abort leaves the record frozen.
    StaysFrozen,
    /// A record comes back whatever stands there, and the late erasure does not look at epoch and standing.
    LateShred,
    /// Control rows that change after they were sealed are not noticed.
    ControlUnchecked,
    /// A page lands for a worker whose lease has gone to another.
    PageUnfenced,
    /// A source restored from an older backup serves at once.
    RestoredServes,
    /// A process that has begun to erase stands still until the record has gone and come back, and then destroys
    /// whatever keys it finds.
    UnlistedErased,
    /// One key pair for all attempts.
    KeyPairShared,
}
