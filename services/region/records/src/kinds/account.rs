//! The client's account details.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "account",
    schema: 1,
    states: &["current"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Writers,
};
