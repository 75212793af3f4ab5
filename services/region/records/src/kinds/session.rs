//! A session that took place, or is about to.

use domicile_proto::records::v1::Session;
use domicile_types::Result;

use super::{Editors, Kind, OPEN, Writers, one_of};

pub(super) const KIND: Kind = Kind {
    name: "session",
    schema: 1,
    states: &["held", "planned", "no-show", "cancelled"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Carers,
    editors: Editors::Writers,
};

pub(super) fn check(session: &Session) -> Result<()> {
    one_of("modality", &session.modality, &["in_person", "video", "phone", "chat"])
}
