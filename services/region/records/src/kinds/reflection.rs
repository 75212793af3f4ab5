//! A client's reflection: the client's own, until they share it (P13).

use domicile_types::Visibility;

use super::{Editors, Kind, Writers};

pub(super) const KIND: Kind = Kind {
    name: "reflection",
    schema: 1,
    states: &["kept", "withdrawn"],
    locked: &[],
    signed: None,
    visibilities: &[Visibility::ClientPrivate, Visibility::Shared],
    writers: Writers::Client,
    editors: Editors::Author,
};
