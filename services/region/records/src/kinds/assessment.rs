//! A scored assessment. PHQ-9 and GAD-7 are scored here, by version (P42); other instruments are the
//! operator's own and keep the score they come with. No score triggers anything (P4).

use domicile_proto::records::v1::Assessment;
use domicile_types::Result;

use super::{Editors, Kind, OPEN, Writers, invalid};

pub(super) const KIND: Kind = Kind {
    name: "assessment",
    schema: 1,
    states: &["completed"],
    locked: &["completed"],
    signed: None,
    visibilities: OPEN,
    writers: Writers::Both,
    editors: Editors::Nobody,
};

/// Fills the score in, or checks the one given.
pub(super) fn score(assessment: &mut Assessment) -> Result<()> {
    let Some(score) = scored(assessment)? else { return Ok(()) };
    if assessment.score != 0 && assessment.score != score {
        return Err(invalid("draft.payload.score"));
    }
    assessment.score = score;
    Ok(())
}

fn scored(assessment: &Assessment) -> Result<Option<u32>> {
    let questions = match assessment.instrument.as_str() {
        // Kroenke, Spitzer, Williams 2001: nine answers of 0 to 3, summed.
        "phq-9/1" => 9,
        // Spitzer, Kroenke, Williams, Löwe 2006: seven answers of 0 to 3, summed.
        "gad-7/1" => 7,
        other if versioned(other) => return Ok(None),
        _ => return Err(invalid("draft.payload.instrument")),
    };
    if assessment.answers.len() != questions || assessment.answers.iter().any(|answer| *answer > 3) {
        return Err(invalid("draft.payload.answers"));
    }
    Ok(Some(assessment.answers.iter().sum()))
}

/// `name/version`, such as `who-5/1`.
fn versioned(instrument: &str) -> bool {
    let Some((name, version)) = instrument.split_once('/') else { return false };
    let named = (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    named && (1..=4).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit())
}
