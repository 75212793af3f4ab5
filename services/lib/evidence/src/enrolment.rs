//! A practice's enrolment: where it lets its clients' records move, signed by its home region.

use domicile_types::RegionId;
use domicile_types::error::Result;
use domicile_types::ids::{AccountId, PracticeId};
use domicile_types::time::Timestamp;

use crate::cbor::{Reader, Value, Writer};
use crate::entry::uuid;
use crate::invalid::Invalid;
use crate::keys::{PublicKey, Signer};

const WHAT: &str = "enrolment";
const DOMAIN: &str = "domicile/enrolment";
/// The format's version.
pub const VERSION: u16 = 1;
/// The most practitioners one enrolment may name.
pub const MAX_PRACTITIONERS: usize = 4096;

/// A practitioner of the practice, so that the destination knows whom to expect.
#[derive(Clone, PartialEq, Eq)]
pub struct Practitioner {
    /// The account.
    pub account: AccountId,
    /// The professional's name.
    pub name: String,
    /// The sign-in e-mail address.
    pub email: String,
}

/// A practice's enrolment. It holds names of professionals, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The practice.
    pub practice: PracticeId,
    /// Its name.
    pub name: String,
    /// Its home region, which signs.
    pub home: RegionId,
    /// The regions it has instructed moves to.
    pub destinations: Vec<RegionId>,
    /// Its practitioners.
    pub practitioners: Vec<Practitioner>,
    /// The agreement it has signed at home.
    pub agreement_version: String,
    /// When this enrolment was made; a later one replaces it.
    pub at: Timestamp,
}

impl Enrolment {
    /// The enrolment's one encoding: the bytes that are signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let destinations: Vec<Value> = self.destinations.iter().map(|to| to.as_str().into()).collect();
        let practitioners: Vec<Value> = self.practitioners.iter().map(practitioner).collect();
        Writer::new()
            .put(0, DOMAIN)
            .put(1, VERSION)
            .put(2, self.practice.as_bytes())
            .put(3, self.name.as_str())
            .put(4, self.home.as_str())
            .put(5, destinations)
            .put(6, practitioners)
            .put(7, self.agreement_version.as_str())
            .put(8, self.at)
            .encode()
    }

    /// Reads an enrolment; only its one encoding is accepted.
    ///
    /// # Errors
    /// When the bytes are not an enrolment of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut map = Reader::decode(WHAT, bytes)?;
        if map.text(0, 64)? != DOMAIN || map.unsigned::<u16>(1)? != VERSION {
            return Err(Invalid::form(WHAT, "not an enrolment of this version"));
        }
        let enrolment = Self {
            practice: uuid(&mut map, 2).map(PracticeId::from_uuid)?,
            name: map.text(3, 512)?,
            home: map.parsed(4, |text| RegionId::new(text).ok())?,
            destinations: map.array(5)?.into_iter().map(destination).collect::<Result<_, _>>()?,
            practitioners: practitioners(map.array(6)?)?,
            agreement_version: map.text(7, 64)?,
            at: map.timestamp(8)?,
        };
        map.finish()?;
        Ok(enrolment)
    }
}

fn practitioner(practitioner: &Practitioner) -> Value {
    Writer::new()
        .put(1, practitioner.account.as_bytes())
        .put(2, practitioner.name.as_str())
        .put(3, practitioner.email.as_str())
        .into()
}

fn destination(value: Value) -> Result<RegionId, Invalid> {
    match value {
        Value::Text(text) => RegionId::new(&text).map_err(|_| Invalid::form(WHAT, "no such region")),
        _ => Err(Invalid::form(WHAT, "no such region")),
    }
}

fn practitioners(values: Vec<Value>) -> Result<Vec<Practitioner>, Invalid> {
    if values.len() > MAX_PRACTITIONERS {
        return Err(Invalid::new(WHAT, crate::Fault::TooLarge));
    }
    let read = |value| {
        let mut map = Reader::of(WHAT, value)?;
        let read = Practitioner {
            account: uuid(&mut map, 1).map(AccountId::from_uuid)?,
            name: map.text(2, 512)?,
            email: map.text(3, 320)?,
        };
        map.finish()?;
        Ok(read)
    };
    values.into_iter().map(read).collect()
}

/// An enrolment with its home region's signature, as it is stored and carried.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedEnrolment {
    /// The enrolment's bytes.
    pub content: Vec<u8>,
    /// Ed25519 of the home region's statement key over `content`.
    pub signature: [u8; 64],
}

impl SignedEnrolment {
    /// Signs an enrolment.
    #[must_use]
    pub fn sign(signer: &dyn Signer, enrolment: &Enrolment) -> Self {
        let content = enrolment.encode();
        let signature = signer.sign(&content);
        Self { content, signature }
    }

    /// Wraps parts that came from outside; `None` when the signature is not 64 bytes.
    #[must_use]
    pub fn from_parts(content: Vec<u8>, signature: &[u8]) -> Option<Self> {
        Some(Self { content, signature: signature.try_into().ok()? })
    }

    /// Checks the signature by the home region's statement key and reads the enrolment.
    ///
    /// # Errors
    /// [`domicile_types::Code::StatementInvalid`] when signature or encoding does not fit.
    pub fn verify(&self, key: &PublicKey) -> Result<Enrolment> {
        key.verify(WHAT, &self.content, &self.signature).map_err(Invalid::in_statement)?;
        Enrolment::decode(&self.content).map_err(Invalid::in_statement)
    }
}
