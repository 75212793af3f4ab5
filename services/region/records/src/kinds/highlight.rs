//! A passage somebody marked.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "highlight",
    schema: 1,
    states: &["kept", "withdrawn"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Author,
};
