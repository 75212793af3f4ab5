//! Results of cells: a line each, appended as the cell ends, so that a run goes on where one stopped.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path as File, PathBuf};
use std::time::Duration;

use domicile_store::Backend;

use super::cell::{Cell, Found, Victim};
use super::matrix::quantile;
use crate::world::Outcome;

/// What came of a cell.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Everything held.
    Held(Found),
    /// The point was not reached: nobody was killed.
    Missed,
    /// What did not hold.
    Wrong(String),
}

impl Verdict {
    /// The word in the file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Missed => "missed",
            Self::Wrong(_) => "wrong",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Noted {
    /// The cell's name.
    pub cell: String,
    /// On which database.
    pub backend: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// The file.
pub struct Results(PathBuf);

impl Results {
    /// Results in a file, which need not exist yet.
    #[must_use]
    pub fn in_file(path: &File) -> Self {
        Self(path.to_owned())
    }

    /// Notes a result.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&self, cell: &Cell, backend: Backend, verdict: &Verdict, took: Duration) -> Outcome<()> {
        let backend = if backend == Backend::Postgres { "postgresql" } else { "sqlite" };
        let (found, why) = match verdict {
            Verdict::Held(found) => (found.clone(), String::new()),
            Verdict::Missed => (Found::default(), String::new()),
            Verdict::Wrong(why) => (Found::default(), why.replace(['\t', '\n'], " ")),
        };
        let millis =
            |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |t| t.as_millis().to_string());
        let line = [
            cell.name(),
            backend.to_owned(),
            verdict.word().to_owned(),
            found.kills.to_string(),
            millis(found.served),
            millis(found.rested),
            if found.end.is_empty() { "-".to_owned() } else { found.end.to_owned() },
            found.acknowledged.to_string(),
            took.as_millis().to_string(),
            why,
        ];
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.0)?;
        // One write: several worlds append to the file.
        Ok(file.write_all(format!("{}\n", line.join("\t")).as_bytes())?)
    }

    /// The last result of each cell and database.
    ///
    /// # Errors
    /// When a line is none of ours.
    pub fn all(&self) -> Outcome<Vec<Noted>> {
        let text = match std::fs::read_to_string(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut last = BTreeMap::new();
        for line in text.lines() {
            let noted = parse(line).ok_or_else(|| format!("not a result: {line}"))?;
            last.insert((noted.cell.clone(), noted.backend.clone()), noted);
        }
        Ok(last.into_values().collect())
    }
}

fn parse(line: &str) -> Option<Noted> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [cell, backend, word, kills, served, rested, end, acknowledged, _, why] = columns.as_slice() else {
        return None;
    };
    let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
    let end = ["closed", "aborted"].into_iter().find(|known| known == end).unwrap_or_default();
    let verdict = match *word {
        "held" => Verdict::Held(Found {
            reached: true,
            kills: kills.parse().ok()?,
            served: millis(served),
            rested: millis(rested),
            end,
            acknowledged: acknowledged.parse().ok()?,
        }),
        "missed" => Verdict::Missed,
        "wrong" => Verdict::Wrong((*why).to_owned()),
        _ => return None,
    };
    Some(Noted { cell: (*cell).to_owned(), backend: (*backend).to_owned(), verdict })
}

/// A table for docs/reliability.md: for each process and database, cells in which everything held of cells
/// that were run and of all there are; then the sums.
#[must_use]
pub fn table(noted: &[Noted], cells: &[Cell]) -> String {
    let mut out =
        String::from("| points in | path | killed | held | run | of |\n|---|---|---|---|---|---|\n");
    let mut groups: BTreeMap<_, Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        groups.entry((cell.role, cell.path, cell.victim)).or_default().push(cell);
    }
    for ((role, path, victim), cells) in groups {
        let of: Vec<&Verdict> = cells.iter().filter_map(|cell| find(noted, &cell.name())).collect();
        let ran = of.iter().filter(|verdict| !matches!(verdict, Verdict::Missed)).count();
        let held = of.iter().filter(|verdict| matches!(verdict, Verdict::Held(_))).count();
        let (role, path, victim) = (role.as_str(), path.as_str(), victim.as_str());
        out.push_str(&format!("| {role} | {path} | {victim} | {held} | {ran} | {} |\n", cells.len()));
    }
    out.push_str(&sums(noted));
    out
}

fn find<'a>(noted: &'a [Noted], name: &str) -> Option<&'a Verdict> {
    noted.iter().find(|one| one.cell == name && one.backend == "postgresql").map(|one| &one.verdict)
}

fn sums(noted: &[Noted]) -> String {
    let held = |one: &Noted| match &one.verdict {
        Verdict::Held(found) => Some((one.cell.clone(), found.clone())),
        _ => None,
    };
    let found: Vec<(String, Found)> = noted.iter().filter_map(held).collect();
    let missed = noted.iter().filter(|one| matches!(one.verdict, Verdict::Missed)).count();
    let wrong = noted.iter().filter(|one| matches!(one.verdict, Verdict::Wrong(_))).count();
    let kills: u32 = found.iter().map(|(_, found)| found.kills).sum();
    let acknowledged: usize = found.iter().map(|(_, found)| found.acknowledged).sum();
    let mut out = format!(
        "\n{} cells held, {wrong} did not, {missed} did not reach their point. {kills} kills; {acknowledged} \
         writes acknowledged meanwhile, none lost in a cell that held.\n\n",
        found.len()
    );
    out.push_str("| after the last kill -9 of | p50 | p99 | longest | of |\n|---|---|---|---|---|\n");
    for (name, victims) in [
        ("a region, until it answers", &[Victim::Source, Victim::Destination][..]),
        ("a database server, until its region answers", &[Victim::Database]),
    ] {
        out.push_str(&line(name, &found, victims, |found| found.served));
    }
    out.push_str(&line("anybody, until the transfer rests", &found, &Victim::ALL, |found| found.rested));
    out
}

fn line(
    name: &str,
    found: &[(String, Found)],
    victims: &[Victim],
    of: impl Fn(&Found) -> Option<Duration>,
) -> String {
    let victims: Vec<String> = victims.iter().map(|victim| format!("/{}/", victim.as_str())).collect();
    let concerned = found.iter().filter(|(cell, _)| victims.iter().any(|victim| cell.contains(victim)));
    let mut times: Vec<Duration> = concerned.filter_map(|(_, found)| of(found)).collect();
    times.sort();
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let (p50, p99, most) = (quantile(&times, 50), quantile(&times, 99), quantile(&times, 100));
    format!("| {name} | {} | {} | {} | {} |\n", seconds(p50), seconds(p99), seconds(most), times.len())
}
