//! The transfer protocol explored exhaustively: the crate's own transition functions in a thin world of two
//! regions, every interleaving of their effects, and the worst coordinator there could be.
//!
//! `DOMICILE_MODEL=TEXT` explores the configurations whose name contains the text instead, those for which an
//! ordinary run has no time among them: `DOMICILE_MODEL=deep`, or `just model`.
#![cfg(test)]
#![expect(clippy::print_stdout, reason = "the tables are what a run is for")]

mod actions;
mod bugs;
mod configs;
mod properties;
mod rest;
mod restore;
mod rows;
mod source_steps;
mod there_steps;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use domicile_transfer_protocol::Numbers;
use domicile_types::{Ctx, Timestamp};
use stateright::{Checker, HasDiscoveries, Model, Property};

use actions::Action;
use properties::Named;
use world::{Bounds, Tx, World};

/// A bounded model, and the properties it is asked for.
#[derive(Clone)]
struct Moves {
    bounds: Bounds,
    numbers: Numbers,
    properties: Vec<Named>,
    /// Which of [`properties::REACHED`] were, one bit each.
    reached: Arc<AtomicU32>,
}

impl Moves {
    fn new(bounds: Bounds, properties: Vec<Named>) -> Self {
        let numbers = bounds.numbers();
        Self { bounds, numbers, properties, reached: Arc::default() }
    }

    fn note_reached(&self, world: &World) {
        let known = self.reached.load(Ordering::Relaxed);
        for (bit, (_, is)) in properties::REACHED.iter().enumerate() {
            if known & 1 << bit == 0 && is(self, world) {
                self.reached.fetch_or(1 << bit, Ordering::Relaxed);
            }
        }
    }

    const fn tx(&self, world: World) -> Tx<'_> {
        Tx { bounds: &self.bounds, numbers: &self.numbers, world }
    }
}

impl Model for Moves {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![actions::beginning(&self.tx(World::default()))]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions::list(&self.tx(*world), actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut tx = self.tx(*world);
        tx.take(action)?;
        self.note_reached(&tx.world);
        (tx.world != *world).then_some(tx.world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.properties.iter().map(|(name, condition)| Property::always(name, *condition)).collect()
    }
}

/// What an exploration found out.
struct Explored {
    states: usize,
    depth: usize,
    seconds: f64,
    broken: Vec<(&'static str, Vec<Action>)>,
    reached: u32,
}

/// Explores to the end, or until a property is broken: breadth first for a short way to it, else depth first,
/// which needs less memory.
fn explore(model: Moves, short: bool) -> Explored {
    let (began, reached) = (Ctx::system().now(), Arc::clone(&model.reached));
    let builder = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    if short {
        found(&builder.spawn_bfs().join(), began, &reached)
    } else {
        found(&builder.spawn_dfs().join(), began, &reached)
    }
}

fn found(checker: &impl Checker<Moves>, began: Timestamp, reached: &AtomicU32) -> Explored {
    let seconds = Ctx::system().now().since(began).as_secs_f64();
    let broken = checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions()));
    Explored {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds,
        broken: broken.collect(),
        reached: reached.load(Ordering::Relaxed),
    }
}

/// Explores configurations one after the other and prints what there was: the sum of their states, and which
/// of [`properties::REACHED`] none of them did.
fn all_hold(configs: Vec<configs::Config>) -> (usize, Vec<&'static str>) {
    let (mut sum, mut reached) = (0, 0);
    println!("{:<28} {:>10} {:>6} {:>8}", "configuration", "states", "depth", "seconds");
    for (name, bounds) in configs {
        let properties = properties::of(&bounds);
        let explored = explore(Moves::new(bounds, properties), false);
        println!("{name:<28} {:>10} {:>6} {:>8.1}", explored.states, explored.depth, explored.seconds);
        assert!(explored.broken.is_empty(), "{name}: {:?}", explored.broken);
        sum += explored.states;
        reached |= explored.reached;
    }
    println!("{:<28} {sum:>10}", "together");
    let named = properties::REACHED.iter().enumerate();
    let missed = named.filter(|(bit, _)| reached & 1 << bit == 0).map(|(_, (name, _))| *name);
    (sum, missed.collect())
}

#[test]
fn every_invariant_holds_in_every_state() {
    let only = std::env::var("DOMICILE_MODEL").unwrap_or_default();
    if !only.is_empty() {
        let all = configs::ordinary().into_iter().chain(configs::deep());
        let chosen: Vec<_> = all.filter(|(name, _)| name.contains(&only)).collect();
        assert!(!chosen.is_empty(), "no configuration's name contains {only:?}");
        all_hold(chosen);
        return;
    }
    let (sum, missed) = all_hold(configs::ordinary());
    assert!(sum >= 1_000_000, "only {sum} states");
    assert!(missed.is_empty(), "no configuration has reached: {missed:?}");
}

#[test]
fn every_deliberate_bug_breaks_its_invariant() {
    let mut unseen = Vec::new();
    println!("{:<24} {:<32} {:>8} {:>6} {:>8}", "bug", "breaks", "states", "steps", "seconds");
    for (bug, breaks, bounds) in configs::bugs() {
        rest::forget();
        let named = properties::ALL.iter().find(|(name, _)| *name == breaks).expect("a property's name");
        let explored = explore(Moves::new(Bounds { bug: Some(bug), ..bounds }, vec![*named]), true);
        let (name, states) = (format!("{bug:?}"), explored.states);
        let Some((_, path)) = explored.broken.first() else {
            unseen.push(name);
            continue;
        };
        println!("{name:<24} {breaks:<32} {states:>8} {:>6} {:>8.1}", path.len() - 1, explored.seconds);
    }
    assert!(unseen.is_empty(), "the properties do not see: {unseen:?}");
}
