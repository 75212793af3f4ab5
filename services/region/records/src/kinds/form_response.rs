//! Answers to a form.

use domicile_proto::records::v1::FormResponse;
use domicile_types::Result;

use super::{Editors, Kind, OPEN, Writers, filled};

pub(super) const KIND: Kind = Kind {
    name: "form_response",
    schema: 1,
    states: &["draft", "submitted"],
    locked: &["submitted"],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Author,
};

pub(super) fn check(response: &FormResponse) -> Result<()> {
    filled("form", &response.form)?;
    response.answers.iter().try_for_each(|answer| filled("answers.question", &answer.question))
}
