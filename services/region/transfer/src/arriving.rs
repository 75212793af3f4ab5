//! Sealing for the way and reading what has come from another region: the executor's own functions
//! without its stores, for tests that give them every wrong byte.

pub use crate::app::adopt::{check_root, open_control, open_envelope, open_release, open_rows, openers};
pub use crate::app::pull::{ArrivingPage, Page};
pub use crate::app::pull_object::ArrivingObject;
pub use crate::app::rekey::{RecordKeys, seal_again};
pub use crate::app::release::seal_release;
pub use crate::app::send::{Keyed, SealedPage, seal_page};
pub use crate::app::streams::{Route, object_digest, page_digest, row_digest};
pub use crate::convert::{key_release, read_key_release, signed as read_statement};
pub use crate::grpc::peer::page_parts;
