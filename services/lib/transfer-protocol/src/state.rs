//! The states of a transfer.

use serde::{Deserialize, Serialize};

/// Where a transfer stands in one region. Both regions go through the same states, each at its own pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for by the client.
    Requested,
    /// The offer is there.
    Preflighted,
    /// The client has consented.
    Consented,
    /// Rows travel; the client keeps working.
    Copying,
    /// Writes wait.
    Frozen,
    /// The destination holds everything, sealed.
    Staged,
    /// Completed: the point of no return.
    Released,
    /// The destination is home.
    Adopted,
    /// Sealed again under the destination's own keys.
    Rekeyed,
    /// Erased at the source.
    Shredded,
    /// At rest, completed.
    Closed,
    /// Ending without completion.
    Aborting,
    /// At rest, not completed.
    Aborted,
}

impl State {
    /// Every state.
    pub const ALL: &[Self] = &[
        Self::Requested,
        Self::Preflighted,
        Self::Consented,
        Self::Copying,
        Self::Frozen,
        Self::Staged,
        Self::Released,
        Self::Adopted,
        Self::Rekeyed,
        Self::Shredded,
        Self::Closed,
        Self::Aborting,
        Self::Aborted,
    ];

    /// Whether nothing more will happen.
    #[must_use]
    pub const fn rests(self) -> bool {
        matches!(self, Self::Closed | Self::Aborted)
    }

    /// Whether the transfer has not completed and is not ending: it may still be withdrawn.
    #[must_use]
    pub fn withdrawable(self) -> bool {
        self < Self::Released
    }

    /// Whether the record's rows may travel.
    #[must_use]
    pub const fn copies(self) -> bool {
        matches!(self, Self::Copying | Self::Frozen | Self::Staged)
    }

    /// Whether an operator may hold it: not from Frozen to Adopted.
    #[must_use]
    pub const fn pausable(self) -> bool {
        !matches!(self, Self::Frozen | Self::Staged | Self::Released) && !self.rests()
    }

    /// The name in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Preflighted => "preflighted",
            Self::Consented => "consented",
            Self::Copying => "copying",
            Self::Frozen => "frozen",
            Self::Staged => "staged",
            Self::Released => "released",
            Self::Adopted => "adopted",
            Self::Rekeyed => "rekeyed",
            Self::Shredded => "shredded",
            Self::Closed => "closed",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }

    /// Finds a state by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }
}
