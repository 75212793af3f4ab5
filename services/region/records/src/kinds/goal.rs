//! A goal, worked on by client and practice together.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "goal",
    schema: 1,
    states: &["open", "reached", "given-up"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Writers,
};
