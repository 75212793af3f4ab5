//! A referral: a frozen snapshot once it is sent (P14).

use super::{CLINICAL, Editors, Kind, Writers};

pub(super) const KIND: Kind = Kind {
    name: "referral",
    schema: 1,
    states: &["draft", "sent"],
    locked: &["sent"],
    signed: None,
    visibilities: CLINICAL,
    writers: Writers::Carers,
    editors: Editors::Author,
};
