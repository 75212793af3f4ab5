//! Seeds: many in every run, more on demand, those that once failed for ever.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domicile_simulation::{Outcome, simulate};
use domicile_transfer_protocol::State;

/// Seeds of the ordinary run.
const ORDINARY: u64 = 200;

/// Seeds that broke a law once, each with what it showed. They run for ever.
const PINNED: &[(u64, &str)] = &[
    (15, "a client repeated for ever an upload whose earlier try had left its intent behind"),
    (43, "as 15"),
    (51, "as 15"),
    (56, "as 15"),
];

/// A number from the environment, or another.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// What many seeds led to, added up.
#[derive(Default, Debug)]
struct Sum {
    seeds: usize,
    closed: usize,
    aborted: usize,
    versions: usize,
    objects: usize,
    deaths: usize,
    commits: u64,
    simulated: Duration,
    states: BTreeSet<State>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.closed += outcome.ended.0;
        self.aborted += outcome.ended.1;
        self.versions += outcome.found.0;
        self.objects += outcome.found.1;
        self.deaths += outcome.deaths;
        self.commits += outcome.commits;
        self.simulated += outcome.took;
        self.states.extend(&outcome.states);
    }
}

/// How a seed is run again, and what it broke.
fn failed(seed: u64, outcome: &Outcome) -> String {
    let broken = outcome.broken.join("\n  ");
    format!(
        "seed {seed}:\n  {broken}\n  again, with every event: SIMULATE_SEED={seed} cargo test --locked -p \
         domicile-simulation --test simulation one_seed -- --nocapture"
    )
}

#[test]
fn seeds_keep_every_law() {
    let (first, count) = (setting("SIMULATE_FIRST", 0), setting("SIMULATE", ORDINARY));
    let (next, sum, failures) = (AtomicU64::new(first), Mutex::new(Sum::default()), Mutex::new(Vec::new()));
    let run = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + count {
            return;
        }
        let outcome = simulate(seed).unwrap();
        sum.lock().unwrap().add(&outcome);
        if !outcome.broken.is_empty() {
            writeln(&failed(seed, &outcome));
            failures.lock().unwrap().push(failed(seed, &outcome));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let (sum, failures) = (sum.into_inner().unwrap(), failures.into_inner().unwrap());
    // A simulation in which nothing moves, nobody dies or nothing is written would hold every law.
    let moved = sum.closed > 0 && sum.aborted > 0 && sum.deaths > 0 && sum.versions > 0 && sum.objects > 0;
    assert!(count < ORDINARY || (moved && sum.states.len() == State::ALL.len()), "{sum:?}");
    assert!(
        failures.is_empty(),
        "{} of {count} seeds failed\n{}\n{sum:?}",
        failures.len(),
        failures.join("\n")
    );
    writeln(&format!("{sum:?}"));
}

#[test]
fn seeds_that_failed_once_hold() {
    for (seed, showed) in PINNED {
        let outcome = simulate(*seed).unwrap();
        assert!(outcome.broken.is_empty(), "{showed}\n{}", failed(*seed, &outcome));
    }
}

/// Without a seed in the environment, seed 0.
#[test]
fn one_seed() {
    let seed = setting("SIMULATE_SEED", 0);
    if let Ok(filter) = std::env::var("SIMULATE_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
    }
    let outcome = simulate(seed).unwrap();
    writeln(&outcome.events.join("\n"));
    assert!(outcome.broken.is_empty(), "{}", failed(seed, &outcome));
}

/// Shown with `--nocapture`.
#[expect(clippy::print_stdout, reason = "shown with --nocapture alone")]
fn writeln(text: &str) {
    println!("{text}");
}

/// Same seed, same events in the same order. On a machine that stands still some instants differ by one step of the
/// simulated network, and then, rarely, the order too; the suspect is HTTP/2, which forgets streams it has reset by
/// the operating system's clock. So a seed has eight runs in which to be the same twice; unseeded draws never are.
#[test]
fn a_seed_decides_every_event() {
    for seed in 0..3 {
        let mut runs: Vec<Vec<String>> = Vec::new();
        loop {
            let run = order(seed);
            if runs.contains(&run) {
                break;
            }
            assert!(runs.len() < 7, "seed {seed}:\n{}", difference(&runs[0], &run));
            runs.push(run);
        }
    }
    assert_ne!(order(0), order(1));
}

/// The events of a seed without their instants.
fn order(seed: u64) -> Vec<String> {
    let events = simulate(seed).unwrap().events;
    events
        .iter()
        .map(|event| event.trim_start_matches(|one: char| one == ' ' || one.is_ascii_digit()).to_owned())
        .collect()
}

/// Where two runs part.
fn difference(one: &[String], other: &[String]) -> String {
    let at = one.iter().zip(other).position(|(one, other)| one != other).unwrap_or(0);
    let show = |run: &[String]| {
        run.iter().skip(at.saturating_sub(3)).take(5).cloned().collect::<Vec<_>>().join("\n")
    };
    format!("{}\n---\n{}", show(one), show(other))
}
