//! The two lanes of signed statements of one transfer, as one region holds them.

use domicile_evidence::keys::PublicKey;
use domicile_evidence::statement::{Body, SignedStatement, Statement};
use domicile_types::{Code, Error, RegionId, Result, TransferId};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A statement of the other region, its signature verified.
#[derive(Clone, Debug)]
pub struct Received {
    /// As it was signed.
    pub signed: SignedStatement,
    /// What it states.
    pub statement: Statement,
    /// What the step says.
    pub body: Body,
    /// SHA-256 of the statement's bytes.
    pub digest: Digest,
}

impl Received {
    /// Checks a statement's signature, encodings and body.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when one does not fit.
    pub fn verify(signed: SignedStatement, key: &PublicKey) -> Result<Self> {
        let verified = signed.verify(key)?;
        Ok(Self {
            signed,
            statement: verified.statement,
            body: verified.body,
            digest: Digest(verified.digest),
        })
    }

    /// Whether it is of this transfer and of the region whose key has signed it.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when it is another transfer's or states itself to be another region's.
    pub fn of(&self, transfer: TransferId, origin: &RegionId) -> Result<()> {
        if self.statement.transfer == transfer && self.statement.origin == *origin {
            Ok(())
        } else {
            Err(invalid("transfer"))
        }
    }
}

/// Digests of both lanes, in order; sequence numbers count from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes {
    own: Vec<Digest>,
    peer: Vec<Digest>,
    /// The last of our own statements the other region said it holds.
    acknowledged: u64,
}

/// What a received statement is to the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one: take it in.
    Next,
    /// Taken in before, the same bytes.
    Known,
}

impl Lanes {
    /// The last sequence number of our own lane; 0 for none.
    #[must_use]
    pub fn own_sequence(&self) -> u64 {
        self.own.len() as u64
    }

    /// The last sequence number taken in of the other lane; 0 for none.
    #[must_use]
    pub fn peer_sequence(&self) -> u64 {
        self.peer.len() as u64
    }

    /// The last of our own statements that the other region is known to hold; 0 for none.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The digest our next statement follows; zeros for the first.
    #[must_use]
    pub fn own_tip(&self) -> [u8; 32] {
        self.own.last().map_or([0; 32], |digest| digest.0)
    }

    /// The other lane's last statement as our next one names it.
    #[must_use]
    pub fn seen(&self) -> Option<(u64, [u8; 32])> {
        self.peer.last().map(|digest| (self.peer_sequence(), digest.0))
    }

    /// The other lane's last digest.
    #[must_use]
    pub fn peer_tip(&self) -> Option<Digest> {
        self.peer.last().copied()
    }

    /// Adds our own next statement.
    pub fn push_own(&mut self, digest: Digest) {
        self.own.push(digest);
    }

    /// Checks a statement of the other region against both lanes and takes it in.
    ///
    /// # Errors
    /// [`Code::StatementInvalid`] when it leaves a gap, forks a lane, or forgets what it has seen.
    pub fn accept(&mut self, received: &Received) -> Result<Arrival> {
        let statement = &received.statement;
        let known = self.peer_sequence();
        if statement.sequence >= 1 && statement.sequence <= known {
            let index = usize::try_from(statement.sequence - 1).unwrap_or(usize::MAX);
            let same = self.peer.get(index) == Some(&received.digest);
            return if same { Ok(Arrival::Known) } else { Err(invalid("fork")) };
        }
        if statement.sequence != known + 1 {
            return Err(invalid("gap"));
        }
        if statement.prev != self.peer.last().map_or([0; 32], |digest| digest.0) {
            return Err(invalid("prev"));
        }
        self.acknowledged = self.check_seen(statement.seen)?;
        self.peer.push(received.digest);
        Ok(Arrival::Next)
    }

    fn check_seen(&self, seen: Option<(u64, [u8; 32])>) -> Result<u64> {
        let Some((sequence, digest)) = seen else {
            return if self.acknowledged == 0 { Ok(0) } else { Err(invalid("seen")) };
        };
        let index = sequence.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let held = index.and_then(|index| self.own.get(index));
        if sequence < self.acknowledged || held != Some(&Digest(digest)) {
            return Err(invalid("seen"));
        }
        Ok(sequence)
    }
}

fn invalid(place: &str) -> Error {
    Error::new(Code::StatementInvalid).at(place)
}
