//! Both rows of one transfer in one process: the plan is followed, changes are applied as a store would.
#![cfg(test)]

mod scenarios;

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
        // Invariant 4: no key release before Released.
        assert_eq!(
            change.key_release.is_some(),
            row.state == State::Released && self.source.state == State::Staged
        );
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
                let change = self.facts().preflighted((OFFER, String::new()), 2, peer, &self.numbers)?;
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
            close: true,
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
            close: true,
            busy: false,
            cursor: row.cursor,
            revision: row.revision,
            objects_missing: 0,
            compare: row.compare,
            paused: false,
            refused: row.refused.clone(),
            freeze_not_before: Timestamp::EPOCH,
        });
        plan::next(&here, there.as_ref(), self.now)
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
            expires_at: self.now.plus(self.numbers.consent_valid),
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
