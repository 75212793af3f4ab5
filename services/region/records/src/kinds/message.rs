//! A message outside a session.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "message",
    schema: 1,
    states: &["sent", "withdrawn"],
    locked: &["withdrawn"],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Author,
};
