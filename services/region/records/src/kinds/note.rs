//! A practitioner's note. A signed note is locked; corrections are addenda that hang on it (P40). A
//! psychotherapy note is its author's alone (45 CFR 164.501).

use domicile_types::Visibility;

use super::{Editors, Kind, Writers};

pub(super) const KIND: Kind = Kind {
    name: "note",
    schema: 1,
    states: &["draft", "signed"],
    locked: &["signed"],
    signed: Some("signed"),
    visibilities: &[Visibility::Practitioner, Visibility::Shared, Visibility::Psychotherapy],
    writers: Writers::Carers,
    editors: Editors::Author,
};
