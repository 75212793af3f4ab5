//! A message in a session's chat.

use super::{Editors, Kind, OPEN, Writers};

pub(super) const KIND: Kind = Kind {
    name: "chat_message",
    schema: 1,
    states: &["sent", "withdrawn"],
    locked: &["withdrawn"],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Author,
};
