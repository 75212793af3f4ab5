//! Both rows of one transfer in one process: the plan is followed, changes are applied as a store would.

use std::time::Duration;

use domicile_crypto::SigningKey;
use domicile_evidence::keys::{PublicKey, Signer};
use domicile_evidence::statement::{AbortReason, Body, SignedStatement, Statement, VERSION};
use domicile_transfer_protocol::plan::{self, Ask, Next, Side, View, Wait};
use domicile_transfer_protocol::source::{
    Certificate, ConsentChange, ConsentGiven, NewTransfer, ReleaseInputs, ResidencyChange, StagedClaim,
    Standing, Unsent, request,
};
use domicile_transfer_protocol::{
    ConsentFacts, Destination, DestinationChange, DestinationFacts, Digest, Lanes, Numbers, Received,
    ResidencyFacts, Source, SourceChange, SourceFacts, State, destination,
};
use domicile_types::{AccountId, Code, ConsentId, Ctx, RegionId, Result, SubjectId, Timestamp, TransferId};

const ROOT: Digest = Digest([7; 32]);
const OFFER: Digest = Digest([3; 32]);

struct Key(SigningKey);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public())
    }
}

struct World {
    source: Source,
    there: Option<Destination>,
    consent: Option<ConsentFacts>,
    home: ResidencyFacts,
    held: bool,
    now: Timestamp,
    lanes: [Vec<SignedStatement>; 2],
    keys: [Key; 2],
    numbers: Numbers,
}

fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a region")
}

impl World {
    fn new() -> Self {
        let ctx = Ctx::system();
        let key = || Key(SigningKey::generate(&ctx).expect("a key").0);
        let (keys, now, numbers) = ([key(), key()], Timestamp::from_micros(1_000_000), Numbers::default());
        let new = NewTransfer {
            transfer: TransferId::generate(&ctx),
            attempt: 1,
            subject: SubjectId::generate(&ctx),
            account: AccountId::generate(&ctx),
            from: region("eu"),
            to: region("ca"),
            now,
        };
        let home = ResidencyFacts { epoch: 1, standing: Standing::Active, revision: 10, control_revision: 1 };
        let change = request(new, &numbers);
        let source = change.row.clone();
        let lanes = [Vec::new(), Vec::new()];
        let mut world =
            Self { source, there: None, consent: None, home, held: false, now, lanes, keys, numbers };
        world.commit_source(change);
        world
    }

    fn facts(&self) -> SourceFacts {
        SourceFacts {
            row: self.source.clone(),
            consent: self.consent.clone(),
            residency: self.home.clone(),
            held: self.held,
            now: self.now,
        }
    }

    fn destination_facts(&self) -> DestinationFacts {
        DestinationFacts { row: self.there.clone().expect("a destination"), now: self.now }
    }

    fn sign(&mut self, side: usize, lanes: &mut Lanes, body: &Body) {
        let draft = Statement {
            version: VERSION,
            transfer: self.source.transfer,
            attempt: self.source.attempt,
            origin: region(["eu", "ca"][side]),
            sequence: lanes.own_sequence() + 1,
            step: body.step(),
            at: self.now,
            body_digest: [0; 32],
            prev: lanes.own_tip(),
            seen: lanes.seen(),
        };
        let signed = SignedStatement::sign(&self.keys[side], draft, body);
        lanes.push_own(signed.read().expect("readable").digest.into());
        self.lanes[side].push(signed);
    }

    fn commit_source(&mut self, change: SourceChange) {
        let mut row = change.row;
        if let Some(body) = &change.emit {
            self.sign(0, &mut row.lanes, body);
        }
        if let (Some(end), Some(consent)) = (change.consent, &mut self.consent) {
            assert!(consent.active, "a consent ends once, {end:?}");
            consent.active = false;
            assert!(end != ConsentChange::Complete || row.state == State::Released);
        }
        match change.residency {
            Some(ResidencyChange::Freeze) => self.home.standing = Standing::Frozen,
            Some(ResidencyChange::Unfreeze) => self.home.standing = Standing::Active,
            Some(ResidencyChange::Release { epoch }) => {
                self.home.standing = Standing::Released;
                self.home.epoch = epoch;
            }
            Some(ResidencyChange::Depart { .. }) => self.home.standing = Standing::Departed,
            Some(ResidencyChange::Moved { .. }) | None => {}
        }
        let text = serde_json::to_string(&row).expect("a row is JSON");
        assert_eq!(serde_json::from_str::<Source>(&text).expect("and back"), row);
        self.source = row;
    }

    fn commit_destination(&mut self, change: DestinationChange) {
        let mut row = change.row;
        if let Some(body) = &change.emit {
            self.sign(1, &mut row.lanes, body);
        }
        self.there = Some(row);
    }

    fn received(&self, side: usize, signed: &SignedStatement) -> Received {
        Received::verify(signed.clone(), &self.keys[side].public()).expect("a good signature")
    }

    fn deliver(&mut self, to: Side) -> Result<()> {
        let from = usize::from(to == Side::Source);
        for signed in self.lanes[from].clone() {
            let received = self.received(from, &signed);
            if to == Side::Source {
                if let Some(change) = self.facts().receive(received)? {
                    self.commit_source(change);
                }
            } else if self.there.is_none() {
                let change = destination::invited(&region("ca"), received, self.now)?;
                self.commit_destination(change);
            } else if let Some(change) = self.destination_facts().receive(received)? {
                self.commit_destination(change);
            }
        }
        Ok(())
    }

    fn claim(&self) -> StagedClaim {
        let frozen = self.there.as_ref().and_then(|row| row.frozen).expect("frozen");
        StagedClaim {
            freeze: frozen.freeze,
            final_revision: frozen.final_revision,
            rows: 10,
            objects: 0,
            bytes: 100,
            root: ROOT,
        }
    }

    fn inputs(&self, root: Digest) -> ReleaseInputs {
        ReleaseInputs {
            freeze: self.source.freeze,
            root,
            control_revision: self.home.control_revision,
            key_release: vec![1],
            key_release_digest: Digest([9; 32]),
        }
    }

    fn step(&mut self, to: Side, ask: Ask) -> Result<()> {
        if !(to == Side::Destination && ask == Ask::Preflight) {
            self.deliver(to)?;
        }
        match ask {
            Ask::Deliver => {}
            Ask::Preflight => {
                self.deliver(Side::Destination)?;
                if self.there.as_ref().is_some_and(|row| row.state == State::Requested) {
                    let change = self.destination_facts().preflighted(2)?;
                    self.commit_destination(change);
                }
                let peer = self.received(1, &self.lanes[1][0]);
                let change = self.facts().preflighted(OFFER, 2, peer, &self.numbers)?;
                self.commit_source(change);
            }
            Ask::Prepare => {
                let change = self.destination_facts().prepared(1, vec![4; 133])?;
                self.commit_destination(change);
            }
            Ask::OpenCopy => {
                let change = self.facts().open_copy()?;
                self.commit_source(change);
            }
            Ask::Pull => {
                self.facts().may_send()?;
                let change = self.destination_facts().pulled(self.home.revision, self.home.revision)?;
                self.commit_destination(change);
                let change = self.destination_facts().compared()?;
                self.commit_destination(change);
            }
            Ask::Freeze => {
                let change = self.facts().freeze(Unsent::default(), &self.numbers)?;
                self.commit_source(change);
            }
            Ask::Stage => {
                let change = self.destination_facts().pulled(self.home.revision, self.home.revision)?;
                self.commit_destination(change);
                let change = self.destination_facts().staged(self.claim())?;
                self.commit_destination(change);
            }
            Ask::Release => {
                let change = self.facts().release(&self.inputs(ROOT))?;
                self.commit_source(change);
            }
            Ask::Adopt => {
                let change = self.destination_facts().adopted(self.source.subject, 10)?;
                self.commit_destination(change);
            }
            Ask::Rekey => {
                let change = self.destination_facts().rekeyed(10, 0, Digest([5; 32]))?;
                self.commit_destination(change);
            }
            Ask::Shred => {
                let begun = self.facts().begin_shred(3)?.expect("begins once");
                self.commit_source(begun);
                let certificate = Certificate { rows: 10, objects: 0, keys: 3, provable_at: self.now };
                let change = self.facts().shredded(&certificate)?;
                self.commit_source(change);
            }
            Ask::Close if to == Side::Source => {
                let change = self.facts().close()?;
                self.commit_source(change);
            }
            Ask::Close => {
                let change = self.destination_facts().close()?;
                self.commit_destination(change);
            }
            Ask::Abort => {
                let change = self.facts().abort(AbortReason::Failed)?.expect("aborts");
                self.commit_source(change);
            }
            Ask::Purge => {
                let change = self.destination_facts().purged()?;
                self.commit_destination(change);
            }
        }
        Ok(())
    }

    fn next(&self) -> Next {
        let here = View {
            state: self.source.state,
            own_sequence: self.source.lanes.own_sequence(),
            peer_sequence: self.source.lanes.peer_sequence(),
            busy: false,
            cursor: 0,
            revision: self.home.revision,
            objects_missing: 0,
            compare: false,
            paused: self.source.paused,
            refused: None,
            freeze_not_before: self.source.freeze_not_before,
        };
        let there = self.there.as_ref().map(|row| View {
            state: row.state,
            own_sequence: row.lanes.own_sequence(),
            peer_sequence: row.lanes.peer_sequence(),
            busy: false,
            cursor: row.cursor,
            revision: row.revision,
            objects_missing: 0,
            compare: row.compare,
            paused: false,
            refused: row.refused.clone(),
            freeze_not_before: Timestamp::EPOCH,
        });
        plan::next(&here, there.as_ref(), &self.numbers, self.now)
    }

    /// Follows the plan until it waits; panics when it does not within a hundred steps.
    fn go(&mut self) -> Wait {
        self.go_until(|_| false)
    }

    fn go_until(&mut self, stop: impl Fn(&Self) -> bool) -> Wait {
        for _ in 0..100 {
            if stop(self) {
                return Wait::Rest;
            }
            match self.next() {
                Next::Wait(wait) => return wait,
                Next::Call { to, ask } => self.step(to, ask).unwrap_or_else(|error| {
                    panic!("{ask:?} at {to:?} in {:?}: {error}", self.source.state);
                }),
            }
        }
        panic!("the plan does not come to rest in {:?}", self.source.state);
    }

    fn given(&self) -> ConsentGiven {
        ConsentGiven {
            id: ConsentId::generate(&Ctx::system()),
            account: self.source.account,
            authenticated_at: Some(self.now),
            offer: OFFER,
            destination: region("ca"),
            notice_version: "1".to_owned(),
            offered_version: "1".to_owned(),
            digest: Digest([8; 32]),
            locator: false,
        }
    }

    fn give(&mut self, given: &ConsentGiven) -> Result<()> {
        let change = self.facts().consent(given, &self.numbers)?;
        let consent = change.row.consent.clone().expect("a consent");
        self.commit_source(change);
        self.consent = Some(ConsentFacts {
            id: consent.id,
            subject: self.source.subject,
            attempt: 1,
            destination: region("ca"),
            offer: OFFER,
            active: true,
            expires_at: consent.expires_at,
        });
        Ok(())
    }

    fn consented() -> Self {
        let mut world = Self::new();
        assert_eq!(world.go(), Wait::Client);
        let given = world.given();
        world.give(&given).expect("consent");
        world
    }

    fn at(state: State) -> Self {
        let mut world = Self::consented();
        world.reach(state);
        world
    }

    /// Goes on until the source is in a state; in two of them it is only between a delivery and the step
    /// that comes in the same call.
    fn reach(&mut self, state: State) {
        let there = match state {
            State::Staged => Some((State::Frozen, State::Staged)),
            State::Rekeyed => Some((State::Adopted, State::Rekeyed)),
            _ => None,
        };
        match there {
            Some((here, there)) => {
                self.go_until(|world| world.states() == (here, Some(there)));
                self.deliver(Side::Source).expect("delivered");
            }
            None => {
                self.go_until(|world| world.source.state == state);
            }
        }
        assert_eq!(self.source.state, state);
    }

    fn withdraw(&mut self) -> Result<()> {
        if let Some(change) = self.facts().abort(AbortReason::Withdrawn)? {
            self.commit_source(change);
        }
        Ok(())
    }

    fn states(&self) -> (State, Option<State>) {
        (self.source.state, self.there.as_ref().map(|row| row.state))
    }
}

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
    assert!(Received::verify(last.clone(), &world.keys[1].public()).is_err());
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
    let change = world.facts().preflighted(OFFER, 2, peer, &world.numbers).expect("asked again");
    assert!(change.accept.is_none(), "its row stands already");
    world.commit_source(change);
    assert_eq!(world.go(), Wait::Client);
}
