//! A payment; never a card number: the method is one of four words.

use domicile_proto::records::v1::Payment;
use domicile_types::Result;

use super::{Editors, Kind, OPEN, Writers, invalid, one_of};

pub(super) const KIND: Kind = Kind {
    name: "payment",
    schema: 1,
    states: &["due", "paid", "refunded", "cancelled"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Carers,
    editors: Editors::Writers,
};

pub(super) fn check(payment: &Payment) -> Result<()> {
    one_of("method", &payment.method, &["cash", "transfer", "card", "insurance"])?;
    let iso4217 = payment.currency.len() == 3 && payment.currency.bytes().all(|b| b.is_ascii_uppercase());
    if iso4217 { Ok(()) } else { Err(invalid("draft.payload.currency")) }
}
