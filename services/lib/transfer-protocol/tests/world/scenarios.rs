//! What must hold, whatever happens on the way.

use std::time::Duration;

use super::*;

const BEFORE: [State; 6] =
    [State::Requested, State::Preflighted, State::Consented, State::Copying, State::Frozen, State::Staged];

fn world_in(state: State) -> World {
    match state {
        State::Requested => World::new(),
        State::Preflighted => {
            let mut world = World::new();
            world.go();
            world
        }
        _ => World::at(state),
    }
}

#[test]
fn the_plan_leads_from_consent_to_closed() {
    let mut world = World::consented();
    assert_eq!(world.go(), Wait::Rest);
    assert_eq!(world.states(), (State::Closed, Some(State::Closed)));
    assert_eq!((world.home.standing, world.home.epoch), (Standing::Departed, 2));
    // Invariant 10: both lanes whole on both sides.
    let there = world.there.as_ref().expect("a destination");
    assert_eq!(world.source.lanes.own_sequence(), there.lanes.peer_sequence());
    assert_eq!(world.source.lanes.peer_sequence(), there.lanes.own_sequence());
}

#[test]
fn withdrawal_ends_every_state_before_released_and_none_after() {
    for state in BEFORE {
        let mut world = world_in(state);
        world.withdraw().expect("withdrawn");
        assert_eq!(world.home.standing, Standing::Active, "writable at once from {state:?}");
        assert!(world.consent.as_ref().is_none_or(|consent| !consent.active));
        assert_eq!(world.go(), Wait::Rest);
        assert_eq!(world.states(), (State::Aborted, Some(State::Aborted)), "from {state:?}");
    }
    for state in [State::Released, State::Adopted, State::Rekeyed, State::Shredded, State::Closed] {
        let mut world = World::at(state);
        let refused = world.withdraw().expect_err("too late");
        assert_eq!(refused.code(), Code::TransferComplete, "in {state:?}");
    }
}

#[test]
fn withdrawn_and_released_exclude_each_other() {
    let mut world = World::at(State::Staged);
    let before = world.facts();
    world.withdraw().expect("withdrawn");
    let inputs = world.inputs(ROOT);
    assert_eq!(world.facts().release(&inputs).expect_err("withdrawn").code(), Code::TransferState);
    // The other order: the facts from before the withdrawal, in a transaction that comes after Released.
    let released = before.release(&inputs).expect("released");
    let after = SourceFacts { row: released.row, ..before };
    assert_eq!(after.abort(AbortReason::Withdrawn).expect_err("released").code(), Code::TransferComplete);
}

#[test]
fn a_freeze_that_runs_out_falls_back_and_the_old_answer_counts_for_nothing() {
    let mut world = World::at(State::Frozen);
    world.step(Side::Destination, Ask::Stage).expect("staged under the first freeze");
    world.now = world.now.plus(Duration::from_secs(3));
    let change = world.facts().budget(&world.numbers).expect("no error").expect("over");
    world.commit_source(change);
    assert_eq!((world.source.state, world.home.standing), (State::Copying, Standing::Active));
    world.home.revision += 1;
    world.deliver(Side::Source).expect("the late answer is kept in the lane");
    assert_eq!(world.source.state, State::Copying, "and changes nothing");
    assert_eq!(world.go(), Wait::Pause);
    world.now = world.now.plus(Duration::from_secs(60));
    assert_eq!(world.go(), Wait::Rest);
    assert_eq!(world.source.state, State::Closed);
    assert_eq!(world.source.freeze, 2);
}

#[test]
fn the_last_freeze_that_runs_out_ends_the_transfer() {
    let mut world = World::at(State::Frozen);
    world.source.freeze_tries = world.numbers.freeze_tries - 1;
    world.now = world.now.plus(Duration::from_secs(3));
    let change = world.facts().budget(&world.numbers).expect("no error").expect("over");
    world.commit_source(change);
    assert_eq!(world.source.abort, Some(AbortReason::Failed));
}

#[test]
fn differing_roots_fall_back_and_end_after_the_third_time() {
    let mut world = World::at(State::Staged);
    let other = world.inputs(Digest([1; 32]));
    assert_eq!(world.facts().release(&other).expect_err("differs").code(), Code::RootMismatch);
    for time in 1..world.numbers.mismatches {
        let change = world.facts().mismatch(&world.numbers).expect("staged").expect("falls back");
        world.commit_source(change);
        assert_eq!((world.source.state, world.source.mismatches), (State::Copying, time));
        world.reach(State::Staged);
    }
    let change = world.facts().mismatch(&world.numbers).expect("staged").expect("ends");
    world.commit_source(change);
    assert_eq!(world.source.state, State::Aborting);
}

#[test]
fn release_refuses_a_stale_freeze_stale_control_rows_a_hold_and_an_expired_consent() {
    let world = World::at(State::Staged);
    let code = |change: &dyn Fn(&mut SourceFacts, &mut ReleaseInputs)| {
        let (mut facts, mut inputs) = (world.facts(), world.inputs(ROOT));
        change(&mut facts, &mut inputs);
        facts.release(&inputs).expect_err("refused").code()
    };
    assert_eq!(code(&|_, inputs| inputs.freeze -= 1), Code::Conflict);
    assert_eq!(code(&|facts, _| facts.residency.control_revision += 1), Code::Conflict);
    assert_eq!(code(&|facts, _| facts.residency.revision += 1), Code::Conflict);
    assert_eq!(code(&|facts, _| facts.residency.standing = Standing::Active), Code::Conflict);
    assert_eq!(code(&|facts, _| facts.held = true), Code::LegalHold);
    assert_eq!(
        code(&|facts, _| facts.now = facts.now.plus(Duration::from_secs(73 * 3600))),
        Code::ConsentExpired
    );
    assert_eq!(code(&|facts, _| facts.consent = None), Code::ConsentMissing);
}

#[test]
fn consent_must_be_fresh_and_name_the_present_offer_text_and_destination() {
    let mut world = World::new();
    let early = world.given();
    assert_eq!(world.give(&early).expect_err("no offer yet").code(), Code::OfferNotReady);
    world.go();
    let given = world.given();
    let code = |change: &dyn Fn(&mut ConsentGiven)| {
        let mut given = given.clone();
        change(&mut given);
        world.facts().consent(&given, &world.numbers).expect_err("refused").code()
    };
    assert_eq!(code(&|given| given.authenticated_at = None), Code::FreshSignInNeeded);
    assert_eq!(code(&|given| given.offer = Digest([0; 32])), Code::OfferStale);
    assert_eq!(code(&|given| given.notice_version = "0".to_owned()), Code::OfferStale);
    assert_eq!(code(&|given| given.destination = region("us")), Code::ConsentMismatch);
    assert_eq!(code(&|given| given.account = AccountId::generate(&Ctx::system())), Code::ConsentMismatch);
    let mut late = world.facts();
    late.now = late.now.plus(Duration::from_secs(8 * 24 * 3600));
    let given = ConsentGiven { authenticated_at: Some(late.now), ..given };
    assert_eq!(late.consent(&given, &world.numbers).expect_err("expired").code(), Code::ConsentExpired);
}

#[test]
fn deadlines_end_what_has_not_completed_and_nothing_else() {
    for state in BEFORE {
        let mut world = world_in(state);
        world.now = world.now.plus(Duration::from_secs(8 * 24 * 3600));
        let change = world.facts().expire().expect("no error").expect("expired");
        world.commit_source(change);
        assert_eq!(world.source.abort, Some(AbortReason::Expired), "from {state:?}");
    }
    let mut world = World::at(State::Released);
    world.now = world.now.plus(Duration::from_secs(8 * 24 * 3600));
    assert!(world.facts().expire().expect("no error").is_none());
    assert!(world.facts().overdue(&world.numbers));
}

#[test]
fn pausing_is_refused_from_frozen_to_adopted_and_stops_no_deadline() {
    for state in [State::Frozen, State::Staged, State::Released] {
        let world = World::at(state);
        assert_eq!(world.facts().pause("drill").expect_err("refused").code(), Code::PauseRefused);
    }
    let mut world = World::at(State::Copying);
    let change = world.facts().pause("drill").expect("paused");
    world.commit_source(change);
    assert_eq!(world.next(), Next::Wait(Wait::Operator));
    world.now = world.now.plus(Duration::from_secs(73 * 3600));
    assert!(world.facts().expire().expect("no error").is_some());
}

#[test]
fn a_forked_skipped_or_foreign_statement_is_refused() {
    let world = World::at(State::Frozen);
    let mut there = world.destination_facts();
    let last = world.lanes[0].last().expect("a statement").clone();
    // Skipped: the one before it has not been taken in.
    there.row.lanes = Lanes::default();
    let refused = there.receive(world.received(0, &last)).expect_err("a gap");
    assert_eq!((refused.code(), refused.place()), (Code::StatementInvalid, Some("gap")));
    // Foreign: another region's key.
    assert!(Received::verify(last, &world.keys[1].public()).is_err());
    // Forked: another statement with a number that is taken.
    let mut lanes = Lanes::default();
    lanes.push_own(Digest([1; 32]));
    let mut forked = World::new();
    forked.source.transfer = world.source.transfer;
    let body = Body::Unfrozen { freeze: 1 };
    forked.keys[0] = Key(SigningKey::generate(&Ctx::system()).expect("a key").0);
    forked.lanes[0].clear();
    forked.sign(0, &mut Lanes::default(), &body);
    let other = forked.received(0, &forked.lanes[0][0].clone());
    let refused = world.destination_facts().receive(other).expect_err("a fork");
    assert_eq!(refused.code(), Code::StatementInvalid);
}

#[test]
fn the_late_shred_of_an_earlier_move_finds_another_epoch() {
    let world = World::at(State::Rekeyed);
    let mut facts = world.facts();
    facts.residency.epoch += 1;
    assert_eq!(facts.may_shred().expect_err("another epoch").code(), Code::TransferState);
    let mut facts = world.facts();
    facts.residency.standing = Standing::Active;
    assert_eq!(facts.may_shred().expect_err("back at home").code(), Code::TransferState);
    let mut facts = world.facts();
    facts.held = true;
    assert_eq!(facts.may_shred().expect_err("held").code(), Code::LegalHold);
}

#[test]
fn a_destination_that_refuses_ends_the_transfer() {
    let mut world = World::at(State::Copying);
    let change = world.destination_facts().refuse(Code::Collision).expect("noted");
    world.commit_destination(change);
    assert_eq!(world.go(), Wait::Rest);
    assert_eq!(world.states(), (State::Aborted, Some(State::Aborted)));
    assert_eq!(world.source.abort, Some(AbortReason::Failed));
}

#[test]
fn an_acceptance_that_was_delivered_before_it_was_answered_is_taken_in_once() {
    let mut world = World::new();
    world.deliver(Side::Destination).expect("invited");
    let change = world.destination_facts().preflighted(2).expect("accepts");
    world.commit_destination(change);
    world.deliver(Side::Source).expect("the driver brings it while the source is down");
    let peer = world.received(1, &world.lanes[1][0]);
    let change =
        world.facts().preflighted((OFFER, String::new()), 2, peer, &world.numbers).expect("asked again");
    assert!(change.accept.is_none(), "its row stands already");
    world.commit_source(change);
    assert_eq!(world.go(), Wait::Client);
}

#[test]
fn nothing_is_erased_before_the_record_is_sealed_again() {
    // Invariant 8: source keys destroyed only after a valid Rekeyed.
    for state in [State::Copying, State::Staged, State::Released, State::Adopted] {
        let world = World::at(state);
        assert_eq!(
            world.facts().may_shred().expect_err("too early").code(),
            Code::TransferState,
            "{state:?}"
        );
        assert!(world.facts().begin_shred(3).is_err());
    }
}

#[test]
fn nothing_is_sent_without_an_active_consent() {
    // Invariant 3: before a consent, after its withdrawal, after its time.
    assert_eq!(
        world_in(State::Preflighted).facts().may_send().expect_err("none").code(),
        Code::ConsentMissing
    );
    let mut world = World::at(State::Copying);
    assert!(world.facts().may_send().is_ok());
    let late = SourceFacts { now: world.now.plus(Duration::from_secs(73 * 3600)), ..world.facts() };
    assert_eq!(late.may_send().expect_err("expired").code(), Code::ConsentExpired);
    world.withdraw().expect("withdrawn");
    assert_eq!(world.facts().may_send().expect_err("withdrawn").code(), Code::ConsentWithdrawn);
}
