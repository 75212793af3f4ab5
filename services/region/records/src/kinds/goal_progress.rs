//! Progress on a goal.

use domicile_proto::records::v1::GoalProgress;
use domicile_types::Result;

use super::{Editors, Kind, OPEN, Writers, invalid};

pub(super) const KIND: Kind = Kind {
    name: "goal_progress",
    schema: 1,
    states: &["noted"],
    locked: &[],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Author,
};

pub(super) fn check(progress: &GoalProgress) -> Result<()> {
    if progress.percent > 100 { Err(invalid("draft.payload.percent")) } else { Ok(()) }
}
