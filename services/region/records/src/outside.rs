//! Reading what people's clients send, before anything is looked up: the service's own functions without its
//! store, for the fuzz targets.

use domicile_proto::records::v1::ItemDraft;
use domicile_types::{ItemId, Result, Timestamp};

pub use crate::app::json::{Bundle, Entry, around, cut};
use crate::app::{draft, read};

/// The kind of a draft that can be written.
///
/// # Errors
/// [`domicile_types::Code::KindUnknown`] and [`domicile_types::Code::InvalidRequest`] with the field.
pub fn kind(draft: Option<ItemDraft>) -> Result<&'static str> {
    draft::Draft::read(draft).map(|draft| draft.kind.name)
}

/// The place in a listing that a page token names.
#[must_use]
pub fn place(token: &str) -> Option<(Timestamp, ItemId)> {
    read::place(token)
}

/// The page token of a place.
#[must_use]
pub fn token(at: &Timestamp, item: ItemId) -> String {
    read::token(at, item)
}
