//! The bounded configurations. Each covers what its name says with everything its fields switch on.

use crate::bugs::Bug;
use crate::world::Bounds;

/// A configuration with its name.
pub(crate) type Config = (&'static str, Bounds);

const PLAIN: Bounds = Bounds {
    legs: &[0],
    rows: (1, 1),
    holds: 0,
    withdrawals: false,
    deadlines: false,
    failures: false,
    freezes: 1,
    mismatches: 1,
    pages: 1,
    coordinators: 1,
    effects: true,
    crashes: true,
    stalls: false,
    pauses: false,
    early: false,
    restored: None,
    bug: None,
};

/// The ordinary run's.
pub(crate) fn ordinary() -> Vec<Config> {
    let whole = Bounds { effects: false, crashes: false, ..PLAIN };
    let restored = Bounds { withdrawals: true, crashes: false, ..PLAIN };
    vec![
        (
            "ended anywhere",
            Bounds { withdrawals: true, deadlines: true, failures: true, freezes: 2, ..PLAIN },
        ),
        ("holds and pauses", Bounds { holds: 1, withdrawals: true, freezes: 2, pauses: true, ..PLAIN }),
        ("two coordinators", Bounds { coordinators: 2, failures: true, freezes: 2, ..PLAIN }),
        ("writes", Bounds { rows: (1, 2), freezes: 2, crashes: false, ..PLAIN }),
        ("writes and late pages", Bounds { rows: (1, 1), mismatches: 2, pages: 2, crashes: false, ..PLAIN }),
        ("there and back", Bounds { legs: &[0, 1], ..PLAIN }),
        (
            "there and back, an erasure stalls",
            Bounds { legs: &[0, 1], stalls: true, crashes: false, ..PLAIN },
        ),
        ("back before closed", Bounds { legs: &[0, 1], early: true, ..PLAIN }),
        ("two attempts", Bounds { legs: &[0, 0], withdrawals: true, ..whole }),
        ("aborted, there and back", Bounds { legs: &[0, 0, 1], withdrawals: true, ..whole }),
        ("source restored", Bounds { rows: (1, 2), restored: Some(0), effects: false, ..restored }),
        ("destination restored", Bounds { restored: Some(1), effects: false, ..restored }),
    ]
}

/// More, on demand.
pub(crate) fn deep() -> Vec<Config> {
    let anything = Bounds { withdrawals: true, deadlines: true, failures: true, freezes: 2, ..PLAIN };
    let restored = Bounds { withdrawals: true, crashes: false, ..PLAIN };
    vec![
        ("deep: writes", Bounds { rows: (1, 3), freezes: 2, mismatches: 2, ..PLAIN }),
        (
            "deep: pages",
            Bounds { rows: (1, 2), freezes: 2, mismatches: 2, pages: 2, crashes: false, ..PLAIN },
        ),
        ("deep: all of it", Bounds { holds: 1, coordinators: 2, ..anything }),
        ("deep: two attempts", Bounds { legs: &[0, 0], withdrawals: true, crashes: false, ..PLAIN }),
        ("deep: source restored", Bounds { rows: (1, 2), restored: Some(0), ..restored }),
        ("deep: destination restored", Bounds { restored: Some(1), ..restored }),
    ]
}

/// Each deliberate bug, the invariant it breaks, and a configuration in which it shows.
pub(crate) fn bugs() -> Vec<(Bug, &'static str, Bounds)> {
    let quiet = Bounds { crashes: false, ..PLAIN };
    let again = Bounds { legs: &[0, 0], withdrawals: true, effects: false, ..quiet };
    let back = Bounds { legs: &[0, 1], early: true, ..quiet };
    let writes = Bounds { rows: (1, 2), freezes: 2, ..quiet };
    let withdrawn = Bounds { withdrawals: true, ..quiet };
    let late = Bounds { deadlines: true, ..quiet };
    let held = Bounds { holds: 1, ..quiet };
    let two = Bounds { coordinators: 2, ..quiet };
    let differ = Bounds { mismatches: 2, freezes: 2, ..quiet };
    let restored = Bounds { restored: Some(0), effects: false, ..quiet };
    vec![
        (Bug::AttemptUnchecked, "14 every transfer ends", again),
        (Bug::ReleasedWithoutConsent, "4 no key before Released", late),
        (Bug::SentUnchecked, "3 nothing leaves before consent", late),
        (Bug::ShredBeforeRekeyed, "8 keys outlive Rekeyed", quiet),
        (Bug::EarlyCursor, "7 adopted is acknowledged", writes),
        (Bug::StaleAnswer, "7 adopted is acknowledged", writes),
        (Bug::ReleasedHeld, "H held is kept", held),
        (Bug::AbortOvertakes, "6 aborted leaves nothing", withdrawn),
        (Bug::NoTombstone, "6 aborted leaves nothing", withdrawn),
        (Bug::EpochKept, "1 one writer", quiet),
        (Bug::UnsentUnblocked, "7 adopted is acknowledged", writes),
        (Bug::WrittenWhileFrozen, "7 adopted is acknowledged", writes),
        (Bug::StaleToken, "1 one writer", two),
        (Bug::PurgedUnsigned, "14 every transfer ends", quiet),
        (Bug::TravelKeyKept, "5 withdrawn is never opened", withdrawn),
        (Bug::PrivateKeyKept, "6 aborted leaves nothing", withdrawn),
        (Bug::WithdrawnAfterReleased, "5 withdrawn is never opened", withdrawn),
        (Bug::LoggedTwice, "10 each statement once", quiet),
        (Bug::StatementLost, "11 together or not at all", quiet),
        (Bug::SignedBeforeBackup, "8 keys outlive Rekeyed", quiet),
        (Bug::StaysFrozen, "6 aborted leaves nothing", withdrawn),
        (Bug::LateShred, "2 acknowledged is readable", back),
        (Bug::ControlUnchecked, "7 adopted is acknowledged", held),
        (Bug::PageUnfenced, "14 every transfer ends", differ),
        (Bug::RestoredServes, "1 one writer", restored),
        (Bug::UnlistedErased, "2 acknowledged is readable", Bounds { stalls: true, legs: &[0, 1], ..PLAIN }),
        (Bug::KeyPairShared, "13 a key opens its attempt", again),
    ]
}
