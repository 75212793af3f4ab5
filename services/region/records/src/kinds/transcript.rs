//! A transcript of a session.

use super::{CLINICAL, Editors, Kind, Writers};

pub(super) const KIND: Kind = Kind {
    name: "transcript",
    schema: 1,
    states: &["draft", "final"],
    locked: &["final"],
    signed: None,
    visibilities: CLINICAL,
    writers: Writers::Carers,
    editors: Editors::Author,
};
