//! A booking: asked for by either side, and kept by both.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "booking",
    schema: 1,
    states: &["requested", "confirmed", "attended", "no-show", "cancelled"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Writers,
};
