//! What was seen of a scene in which everything held, and the table of docs/reliability.md.

use std::time::Duration;

use super::scenes::Scene;
use crate::kill::invariants::End;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How long the trouble lasted; zero when it lasted until the transfer rested.
    pub lasted: Duration,
    /// From its end, or its beginning when it lasts throughout, until the transfer rested in both regions.
    pub rested: Duration,
    /// How the transfer ended.
    pub end: End,
    /// How often the record was frozen.
    pub freezes: usize,
    /// Writes acknowledged from the request on; each was found afterwards.
    pub acknowledged: usize,
    /// The longest that a write took from its first try until it was acknowledged, in whichever region.
    pub longest: Duration,
    /// What the scene has to say besides.
    pub besides: String,
}

/// One line for whoever waits.
#[must_use]
pub fn line(scene: &Scene, seen: &Seen) -> String {
    format!(
        "{:<24} {} {:.1} s after; {} freezes, {} writes, the slowest took {:.1} s {}",
        scene.name,
        seen.end.as_str(),
        seen.rested.as_secs_f64(),
        seen.freezes,
        seen.acknowledged,
        seen.longest.as_secs_f64(),
        seen.besides,
    )
}

/// The table.
#[must_use]
pub fn table(seen: &[(Scene, Seen)]) -> String {
    let mut out = "| scene | what | lasted, s | rest after, s | ends | freezes | writes | lost | slowest write, s | |\n\
                   |---|---|---:|---:|---|---:|---:|---:|---:|---|\n"
        .to_owned();
    for (scene, seen) in seen {
        let lasted = match seen.lasted {
            Duration::ZERO => "throughout".to_owned(),
            lasted => format!("{:.0}", lasted.as_secs_f64()),
        };
        out.push_str(&format!(
            "| `{}` | {} | {lasted} | {:.1} | {} | {} | {} | 0 | {:.1} | {} |\n",
            scene.name,
            scene.what,
            seen.rested.as_secs_f64(),
            seen.end.as_str(),
            seen.freezes,
            seen.acknowledged,
            seen.longest.as_secs_f64(),
            seen.besides,
        ));
    }
    out
}
