//! A file; its content is an object.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "attachment",
    schema: 1,
    states: &["stored", "withdrawn"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Author,
};
