//! Every statement that a transfer can leave, signed and taken in by the product's own code, with the rows as
//! they were just before each was taken in.

use domicile_crypto::SigningKey;
use domicile_evidence::keys::{PublicKey, Signer};
use domicile_evidence::statement::{AbortReason, Body, SignedStatement, Statement, VERSION};
use domicile_transfer_protocol::destination::invited;
use domicile_transfer_protocol::source::{NewTransfer, StagedClaim, Standing, request};
use domicile_transfer_protocol::{
    Destination, DestinationFacts, Digest, Lanes, Numbers, Received, ResidencyFacts, Source, SourceFacts,
    State,
};
use domicile_types::{AccountId, ConsentId, Ctx, RegionId, Result, SubjectId, TransferId};

use crate::world::{NOON, known, region};

/// A region's signing key.
pub struct Key(SigningKey);

impl Key {
    /// A key of its own.
    ///
    /// # Panics
    /// When the library refuses it.
    #[must_use]
    pub fn new(ctx: &Ctx) -> Self {
        Self(SigningKey::generate(ctx).expect("a key").0)
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }

    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public())
    }
}

/// Who states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The region the record leaves.
    Source,
    /// The region it goes to.
    Destination,
}

/// A statement and the moment in which the other region takes it in.
#[derive(Clone)]
pub struct Told {
    /// Who states it.
    pub by: By,
    /// The statement.
    pub signed: SignedStatement,
    /// What it says.
    pub body: Body,
    /// The source's row just before.
    pub source: Source,
    /// The destination's row just before; none before it is invited.
    pub destination: Option<Destination>,
}

/// A transfer's statements in their order.
pub struct Story {
    /// The source's key.
    pub from: Key,
    /// The destination's key.
    pub to: Key,
    /// What was stated.
    pub told: Vec<Told>,
    source: Source,
    destination: Option<Destination>,
}

impl Story {
    fn begin(seed: u8, attempt: u64) -> Self {
        let ctx = known(seed);
        let (from, to) = (Key::new(&ctx), Key::new(&ctx));
        let new = NewTransfer {
            transfer: TransferId::generate(&ctx),
            attempt,
            subject: SubjectId::generate(&ctx),
            account: AccountId::generate(&ctx),
            from: region("eu"),
            to: region("ca"),
            now: NOON,
        };
        let change = request(new, &Numbers::default());
        let mut story = Self { from, to, told: Vec::new(), source: change.row, destination: None };
        story.say(By::Source, change.emit.expect("a request"), State::Requested);
        story.say(
            By::Destination,
            Body::Preflighted { offer_digest: None, kinds: 3, protocol: 1 },
            State::Preflighted,
        );
        let offer = Body::Preflighted { offer_digest: Some([3; 32]), kinds: 3, protocol: 1 };
        story.say(By::Source, offer, State::Preflighted);
        let consented = Body::Consented {
            consent: ConsentId::generate(&ctx),
            consent_digest: [4; 32],
            offer_digest: [3; 32],
            notice_version: "2026-01".to_owned(),
            destination: region("ca"),
            expires_at: NOON,
        };
        story.say(By::Source, consented, State::Consented);
        story.say(By::Destination, Body::Copying { suite: 1, hpke_public: vec![5; 133] }, State::Copying);
        story
    }

    /// A transfer that arrives: everything but the abort's two steps.
    #[must_use]
    pub fn closed(seed: u8, attempt: u64) -> Self {
        let mut story = Self::begin(seed, attempt);
        let root = [6; 32];
        story.source.state = State::Copying;
        story.source.freeze = 1;
        story.say(By::Source, Body::Frozen { freeze: 1, final_revision: 9 }, State::Frozen);
        story.say(By::Source, Body::Unfrozen { freeze: 1 }, State::Copying);
        story.source.freeze = 2;
        story.say(By::Source, Body::Frozen { freeze: 2, final_revision: 9 }, State::Frozen);
        let staged = Body::Staged { freeze: 2, final_revision: 9, rows: 7, objects: 1, bytes: 700, root };
        story.say(By::Destination, staged, State::Staged);
        story.source.epoch = Some(2);
        let released = Body::Released {
            freeze: 2,
            final_revision: 9,
            root,
            epoch: 2,
            key_release_digest: [7; 32],
            consent_digest: [4; 32],
        };
        story.say(By::Source, released, State::Released);
        story.say(By::Destination, Body::Adopted { epoch: 2, rows: 7, root }, State::Adopted);
        let rekeyed = Body::Rekeyed { epoch: 2, rows: 7, objects: 1, backup_digest: [8; 32] };
        story.say(By::Destination, rekeyed, State::Rekeyed);
        let shredded = Body::Shredded {
            epoch: 2,
            rows: 7,
            objects: 1,
            keys: 4,
            unreadable_at: NOON,
            provable_at: NOON,
            method: "nist-800-88/cryptographic-erase+clear".to_owned(),
        };
        story.say(By::Source, shredded, State::Shredded);
        story
    }

    /// A transfer that is withdrawn.
    #[must_use]
    pub fn aborted(seed: u8, attempt: u64) -> Self {
        let mut story = Self::begin(seed, attempt);
        story.say(By::Source, Body::Aborting { reason: AbortReason::Withdrawn }, State::Aborting);
        story.say(By::Destination, Body::Aborted { reason: AbortReason::Withdrawn }, State::Aborted);
        story
    }

    /// States a step: signed in its lane, and taken in by the other region.
    fn say(&mut self, by: By, body: Body, state: State) {
        let signed = self.sign(by, &body, state);
        let told = Told {
            by,
            signed: signed.clone(),
            body,
            source: self.source.clone(),
            destination: self.destination.clone(),
        };
        match by {
            By::Source => {
                self.destination = Some(told.at_destination(&self.from.public(), signed).expect("follows"));
            }
            By::Destination => self.source = told.at_source(&self.to.public(), signed).expect("follows"),
        }
        self.told.push(told);
    }

    fn sign(&mut self, by: By, body: &Body, state: State) -> SignedStatement {
        let (transfer, attempt) = (self.source.transfer, self.source.attempt);
        let (origin, key, lanes) = match by {
            By::Source => {
                self.source.state = state;
                (self.source.from.clone(), &self.from, &mut self.source.lanes)
            }
            By::Destination => {
                let row = self.destination.as_mut().expect("invited");
                row.state = state;
                if let Body::Staged { freeze, final_revision, rows, objects, bytes, root } = *body {
                    let root = Digest(root);
                    row.staged = Some(StagedClaim { freeze, final_revision, rows, objects, bytes, root });
                }
                (row.to.clone(), &self.to, &mut row.lanes)
            }
        };
        let signed = sign(key, (transfer, attempt, origin), lanes, body);
        lanes.push_own(Digest(signed.read().expect("a statement").digest));
        signed
    }
}

/// The next statement of a lane, as the store signs it.
#[must_use]
pub fn sign(key: &Key, of: (TransferId, u64, RegionId), lanes: &Lanes, body: &Body) -> SignedStatement {
    let (transfer, attempt, origin) = of;
    let statement = Statement {
        version: VERSION,
        transfer,
        attempt,
        origin,
        sequence: lanes.own_sequence() + 1,
        step: body.step(),
        at: NOON,
        body_digest: [0; 32],
        prev: lanes.own_tip(),
        seen: lanes.seen(),
    };
    SignedStatement::sign(key, statement, body)
}

impl Told {
    /// Takes a statement in where this one belongs; whether that changed anything.
    ///
    /// # Errors
    /// The product's.
    pub fn take_in(&self, key: &PublicKey, signed: SignedStatement) -> Result<bool> {
        match self.by {
            By::Source => {
                let after = self.at_destination(key, signed)?;
                Ok(Some(after) != self.destination)
            }
            By::Destination => Ok(self.at_source(key, signed)? != self.source),
        }
    }

    fn at_destination(&self, key: &PublicKey, signed: SignedStatement) -> Result<Destination> {
        let received = Received::verify(signed, key)?;
        received.of(self.source.transfer, &self.source.from)?;
        let Some(row) = self.destination.clone() else {
            return Ok(invited(&self.source.to, received, NOON)?.row);
        };
        let change = DestinationFacts { row: row.clone(), now: NOON }.receive(received)?;
        Ok(change.map_or(row, |change| change.row))
    }

    fn at_source(&self, key: &PublicKey, signed: SignedStatement) -> Result<Source> {
        let received = Received::verify(signed, key)?;
        received.of(self.source.transfer, &self.source.to)?;
        let residency =
            ResidencyFacts { epoch: 1, standing: Standing::Active, revision: 9, control_revision: 1 };
        let facts =
            SourceFacts { row: self.source.clone(), consent: None, residency, held: false, now: NOON };
        Ok(facts.receive(received)?.map_or(self.source.clone(), |change| change.row))
    }
}
