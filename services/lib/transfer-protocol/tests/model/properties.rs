//! What must always hold, by the numbers of the design (`docs/transfer.md`, "Must always hold").
//!
//! | invariant | here | besides |
//! |---|---|---|
//! | 1 one writer, epochs rise, stale tokens | [`one_writer`] | |
//! | 2 acknowledged writes are readable | [`readable`] | a Released source answers for 60 s only, then "arriving" |
//! | 3 nothing leaves before consent | [`consented`] | |
//! | 4 no key release before Released | [`released`] | |
//! | 5 withdrawn is never opened | [`withdrawn`] | |
//! | 6 aborted leaves nothing, record writable | [`aborted`] | the 30 s are the clock's, shown by the service's tests |
//! | 7 adopted is frozen is acknowledged | [`whole`] | contents are sealings here; bytes in the service's tests |
//! | 8 keys destroyed only after Rekeyed | [`rekeyed`] | |
//! | 9 nothing left after Shredded | [`shredded`] | caches and replicas: the service's tests |
//! | 10 each statement once in each log | [`logged`] | inclusion proofs: the audit's tests |
//! | 11 state, entry and outbox together | [`together`] | the stores' tests and the kill matrix |
//! | 12 the coordinator holds no plaintext | cannot be said: the model's messages have no content | the canary tests |
//! | 13 a key opens its own attempt only | [`own_key`] | idempotency keys: the stores' tests |
//! | 14 every transfer ends | [`crate::rest::ends`] | |
//!
//! A legal hold is named by no invariant's text but by the steps Released and Shredded: [`unheld`].

use domicile_evidence::statement::{AbortReason, Step};
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::{Destination, Source, State};

use crate::Moves;
use crate::rows::{small, stated};
use crate::world::{Bounds, Broken, Consent, Home, Key, Move, ROWS, Tx, World};

/// What cannot be asked of a region restored alone. It may have lost statements that the other one holds (10,
/// 11, 14), and a backup of the destination may hold ciphertext of an attempt that was aborted since (6), which
/// nothing opens any more (5).
const NOT_RESTORED: &[&str] = &["6", "10", "11", "14"];

/// The properties that a configuration is asked for.
pub(crate) fn of(bounds: &Bounds) -> Vec<Named> {
    let asked = |named: &&Named| {
        let number = named.0.split(' ').next().unwrap_or_default();
        bounds.restored.is_none() || !NOT_RESTORED.contains(&number)
    };
    ALL.iter().filter(asked).copied().collect()
}

/// A property's name and condition.
pub(crate) type Named = (&'static str, fn(&Moves, &World) -> bool);

/// What the configurations must reach together, so that a model in which little happens is noticed.
pub(crate) const REACHED: &[Named] = &[
    ("closed", |model, world| every(&model.tx(*world), State::Closed)),
    ("aborted", |model, world| every(&model.tx(*world), State::Aborted)),
    ("thawed and frozen again", |_, world| of_source(world, |row| row.freeze > 1)),
    ("roots differed", |_, world| of_source(world, |row| row.mismatches > 0)),
    ("paused", |_, world| of_source(world, |row| row.paused)),
    ("expired", |_, world| of_source(world, |row| row.abort == Some(AbortReason::Expired))),
    ("withdrawn", |_, world| world.moves.iter().any(|this| this.acknowledged)),
    ("written while copying", |_, world| {
        world.acknowledged > 1 && of_source(world, |row| row.state.copies())
    }),
    ("held while staged", |_, world| {
        world.homes[0].held && of_source(world, |row| row.state == State::Staged)
    }),
    ("two tokens", |_, world| of_there(world, |row| row.token > 1)),
    ("rows refused", |_, world| of_there(world, |row| row.refused.is_some())),
    ("rows compared", |_, world| of_there(world, |row| row.compare && row.state == State::Copying)),
    ("back at home", |_, world| {
        world.homes[0].epoch > 2 && world.homes[0].standing == Some(Standing::Active)
    }),
    ("restored and open", |_, world| world.old.is_some() && world.homes.iter().all(|home| !home.closed)),
    ("restored and closed", |_, world| world.homes.iter().any(|home| home.closed)),
];

fn every(tx: &Tx<'_>, state: State) -> bool {
    moves(tx).all(|(_, this)| {
        this.source.is_some_and(|row| row.state == state) && this.there.is_some_and(|row| row.state == state)
    })
}

fn of_source(world: &World, is: fn(&Source) -> bool) -> bool {
    world.moves.iter().filter_map(|this| this.source).any(|row| is(&row))
}

fn of_there(world: &World, is: fn(&Destination) -> bool) -> bool {
    world.moves.iter().filter_map(|this| this.there).any(|row| is(&row))
}

/// Every property.
pub(crate) const ALL: &[Named] = &[
    ("1 one writer", |model, world| one_writer(&model.tx(*world))),
    ("2 acknowledged is readable", |model, world| readable(&model.tx(*world))),
    ("3 nothing leaves before consent", |model, world| consented(&model.tx(*world))),
    ("4 no key before Released", |model, world| released(&model.tx(*world))),
    ("5 withdrawn is never opened", |model, world| withdrawn(&model.tx(*world))),
    ("6 aborted leaves nothing", |model, world| aborted(&model.tx(*world))),
    ("7 adopted is acknowledged", |model, world| whole(&model.tx(*world))),
    ("8 keys outlive Rekeyed", |model, world| rekeyed(&model.tx(*world))),
    ("9 shredded leaves nothing", |model, world| shredded(&model.tx(*world))),
    ("10 each statement once", |model, world| logged(&model.tx(*world))),
    ("11 together or not at all", |model, world| together(&model.tx(*world))),
    ("13 a key opens its attempt", |model, world| own_key(&model.tx(*world))),
    ("14 every transfer ends", |model, world| crate::rest::ends(&model.tx(*world))),
    ("H held is kept", |model, world| unheld(&model.tx(*world))),
];

fn clean(world: &World, kinds: &[Broken]) -> bool {
    kinds.iter().all(|kind| world.broken & *kind as u16 == 0)
}

fn moves<'a>(tx: &'a Tx<'_>) -> impl Iterator<Item = (usize, &'a Move)> {
    tx.world.moves.iter().enumerate().take(tx.bounds.legs.len())
}

const fn past_release(state: State) -> bool {
    matches!(state, State::Released | State::Adopted | State::Rekeyed | State::Shredded | State::Closed)
}

fn one_writer(tx: &Tx<'_>) -> bool {
    let writes =
        |home: &&Home| !home.closed && matches!(home.standing, Some(Standing::Active | Standing::Frozen));
    tx.world.homes.iter().filter(writes).count() <= 1
        && clean(&tx.world, &[Broken::StaleDriver, Broken::Epoch, Broken::AttemptReused])
}

fn serves(world: &World, home: &Home) -> bool {
    let open = match home.standing {
        Some(Standing::Active | Standing::Frozen) => true,
        Some(Standing::Released) => !home.moved,
        _ => false,
    };
    let key = match home.travelling {
        0 => home.keys,
        transfer => world.moves[usize::from(transfer) - 1].travel_key_there,
    };
    // After a restore what counts is that the record is not lost: a closed region serves nobody.
    let open = open || (world.old.is_some() && home.standing.is_some());
    open && key && home.rows & world.acknowledged == world.acknowledged
}

fn readable(tx: &Tx<'_>) -> bool {
    tx.world.homes.iter().any(|home| serves(&tx.world, home))
}

fn consented(tx: &Tx<'_>) -> bool {
    let away = |this: &Move| this.staged != [0; ROWS] || this.pages.iter().any(Option::is_some);
    // A source restored from before the consent has lost its row, not what was sent under it.
    let lost = tx.world.old.is_some();
    clean(&tx.world, &[Broken::NoConsent])
        && moves(tx).all(|(index, this)| lost || !away(this) || tx.consent_given(index))
}

fn released(tx: &Tx<'_>) -> bool {
    let kept = |this: &Move| this.release.is_none() || this.source.is_some_and(|row| past_release(row.state));
    clean(&tx.world, &[Broken::ReleasedWithout]) && moves(tx).all(|(_, this)| kept(this))
}

fn withdrawn(tx: &Tx<'_>) -> bool {
    moves(tx).all(|(index, this)| {
        let openable = this.release.is_some() || this.travel_key_there;
        let released = this.source.is_some_and(|row| past_release(row.state));
        // A restored source has it again, opens nothing with it while it is closed, and destroys it then.
        let closed = tx.world.homes[tx.bounds.leg(index).0].closed;
        let gone = closed || !this.acknowledged || this.travel_key != Key::Used;
        gone && (this.consent != Consent::Withdrawn || (!openable && !released))
    })
}

fn aborted(tx: &Tx<'_>) -> bool {
    let last = moves(tx).filter(|(_, this)| this.source.is_some()).last();
    clean(&tx.world, &[Broken::Late])
        && moves(tx).all(|(index, this)| {
            let here = this.source.map(|row| row.state);
            let there = this.there.map(|row| row.state);
            let purged = this.staged == [0; ROWS] && this.private_key != Key::Used && !this.travel_key_there;
            let home = &tx.world.homes[tx.bounds.leg(index).0];
            let writable = home.standing == Some(Standing::Active) && serves(&tx.world, home);
            let ending = matches!(here, Some(State::Aborting | State::Aborted));
            let latest = last.is_some_and(|(other, _)| other == index);
            let left = there == Some(State::Aborted) && !(purged && ending);
            let goes_on = here == Some(State::Aborted) && !matches!(there, None | Some(State::Aborted));
            tx.closed(index) || !(left || goes_on || (ending && latest && !writable))
        })
}

fn whole(tx: &Tx<'_>) -> bool {
    clean(&tx.world, &[Broken::Adopted, Broken::Control])
}

fn rekeyed(tx: &Tx<'_>) -> bool {
    let after = |state| matches!(state, Some(State::Rekeyed | State::Shredded | State::Closed));
    moves(tx).all(|(index, this)| {
        let home = &tx.world.homes[tx.bounds.leg(index).1];
        // Restored from the backup that Rekeyed names, the destination has the record and forgot that it said so.
        let restored = tx.world.old.is_some() && serves(&tx.world, home);
        let there = after(tx.there_state(index)) || restored;
        !this.erased || (this.backup && after(tx.source_state(index)) && there)
    })
}

fn shredded(tx: &Tx<'_>) -> bool {
    moves(tx).all(|(index, this)| {
        let Some(row) = this.source.filter(|row| matches!(row.state, State::Shredded | State::Closed)) else {
            return true;
        };
        let home = &tx.world.homes[tx.bounds.leg(index).0];
        let returned = row.epoch.map(small) != Some(home.epoch);
        let bare = home.rows == 0 && !home.keys && home.standing == Some(Standing::Departed);
        let own = this.travel_key == Key::None && this.release.is_none() && this.sent == [0; ROWS];
        own && (returned || bare)
    })
}

fn logged(tx: &Tx<'_>) -> bool {
    moves(tx).all(|(_, this)| {
        let Some(here) = this.source else { return true };
        let lanes = [here.lanes.own_sequence(), here.lanes.peer_sequence()];
        let once = lanes.map(small) == this.logs[0];
        let Some(there) = this.there else { return once };
        let lanes = [there.lanes.peer_sequence(), there.lanes.own_sequence()];
        let same = |tip: Option<[u8; 32]>, of, count| {
            tip == stated(of, count).map(|received| received.digest.0) || count == 0
        };
        let prefix = same(here.lanes.peer_tip().map(|tip| tip.0), there.lanes(), here.lanes.peer_sequence())
            && same(there.lanes.peer_tip().map(|tip| tip.0), here.lanes(), there.lanes.peer_sequence());
        let rest = here.state.rests() && there.state.rests();
        let equal = here.lanes.own_sequence() == there.lanes.peer_sequence()
            && here.lanes.peer_sequence() == there.lanes.own_sequence();
        once && lanes.map(small) == this.logs[1] && prefix && (!rest || equal)
    })
}

/// The last statement a region's lane must end with in a state; a commit cut in two would show here.
fn together(tx: &Tx<'_>) -> bool {
    moves(tx).all(|(index, this)| {
        let Some(row) = this.source else { return true };
        let last = stated(row.lanes(), row.lanes.own_sequence()).map(|received| received.statement.step);
        let here = last.is_some_and(|step| source_says(row.state).contains(&step));
        let there = this.there.is_none_or(|row| {
            let last = stated(row.lanes(), row.lanes.own_sequence()).map(|received| received.statement.step);
            there_says(row.state).is_none_or(|steps| last.is_some_and(|step| steps.contains(&step)))
        });
        here && there && stands(tx, index, this, row.state)
    })
}

const fn source_says(state: State) -> &'static [Step] {
    match state {
        State::Requested => &[Step::Requested],
        State::Preflighted => &[Step::Preflighted],
        State::Consented => &[Step::Consented],
        State::Copying => &[Step::Consented, Step::Unfrozen],
        State::Frozen | State::Staged => &[Step::Frozen],
        State::Released | State::Adopted | State::Rekeyed => &[Step::Released],
        State::Shredded | State::Closed => &[Step::Shredded],
        State::Aborting | State::Aborted => &[Step::Aborting],
    }
}

const fn there_says(state: State) -> Option<&'static [Step]> {
    Some(match state {
        State::Requested | State::Aborting => return None,
        State::Preflighted | State::Consented => &[Step::Preflighted],
        State::Copying | State::Frozen => &[Step::Copying, Step::Staged],
        State::Staged | State::Released => &[Step::Staged],
        State::Adopted => &[Step::Adopted],
        State::Rekeyed | State::Shredded | State::Closed => &[Step::Rekeyed],
        State::Aborted => &[Step::Aborted],
    })
}

/// Residency, consent and key release stand as the state says.
fn stands(tx: &Tx<'_>, index: usize, this: &Move, state: State) -> bool {
    let home = &tx.world.homes[tx.bounds.leg(index).0];
    match state {
        State::Frozen | State::Staged => home.standing == Some(Standing::Frozen),
        State::Released | State::Adopted | State::Rekeyed => {
            let kept = this.release.is_some() || this.erased;
            home.standing == Some(Standing::Released) && this.consent == Consent::Completed && kept
        }
        State::Consented | State::Copying => this.consent == Consent::Active,
        State::Aborting | State::Aborted => this.consent != Consent::Active,
        _ => true,
    }
}

fn own_key(tx: &Tx<'_>) -> bool {
    clean(&tx.world, &[Broken::WrongKey])
}

fn unheld(tx: &Tx<'_>) -> bool {
    clean(&tx.world, &[Broken::Held])
}
