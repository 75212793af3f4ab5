//! The logic of the records service. Each request: find out who asks, read or write in one named
//! transaction, seal or open outside of it.

mod access;
pub(crate) mod draft;
mod export;
mod import;
mod intake;
mod joint;
pub(crate) mod json;
mod object;
mod open;
mod put;
pub(crate) mod read;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domicile_config::policy::{Period, RegionPolicy};
use domicile_config::{RecordSettings, TransferSettings};
use domicile_kms::Keyring;
use domicile_objects::ObjectStore;
use domicile_store::queries::residency::{self, Carer, Entitled};
use domicile_store::queries::scoped::Reader;
use domicile_store::{Scope, Store};
use domicile_types::{
    AccountId, Actor, Code, Ctx, Error, PracticeId, RegionId, Result, Role, SubjectId, Timestamp,
};

use self::intake::Intake;
use crate::ports::TravelReader;

/// Numbers of the records service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a released record is still read here (transfer.md, "Numbers").
    pub released_reads: Duration,
    /// Bounds of uploads, imports and pages.
    pub bounds: RecordSettings,
    /// How long an item is kept at least from when it happened, until its record's last session is known (P22).
    pub retain: Period,
    /// How long a signed item is kept at least from when it was signed (P26).
    pub retain_signed: Period,
}

impl Settings {
    /// The numbers a region's settings and its policy give.
    #[must_use]
    pub fn new(transfer: &TransferSettings, bounds: &RecordSettings, policy: &RegionPolicy) -> Self {
        Self {
            released_reads: transfer.source_reads,
            bounds: bounds.clone(),
            retain: policy.retention.records.keep,
            retain_signed: policy.retention.signed_notes.keep,
        }
    }
}

/// What the service is made of.
pub struct Parts {
    /// The region's database.
    pub store: Store,
    /// The region's keys.
    pub keyring: Arc<Keyring>,
    /// The region's object store.
    pub objects: Arc<dyn ObjectStore>,
    /// Opens what a transfer has brought.
    pub travel: Arc<dyn TravelReader>,
    /// Numbers.
    pub settings: Settings,
}

/// The records service. Cheap to clone; all clones are the same service.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    keyring: Arc<Keyring>,
    objects: Arc<dyn ObjectStore>,
    travel: Arc<dyn TravelReader>,
    settings: Settings,
    intake: Intake,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("region", self.region()).finish_non_exhaustive()
    }
}

impl Records {
    /// The service over its parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { store, keyring, objects, travel, settings } = parts;
        let intake = Intake::new(&settings.bounds);
        Self { inner: Arc::new(Inner { store, keyring, objects, travel, settings, intake }) }
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn ctx(&self) -> &Ctx {
        self.inner.store.ctx()
    }

    fn now(&self) -> Timestamp {
        self.ctx().now()
    }

    fn region(&self) -> &RegionId {
        self.inner.store.region()
    }

    fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Where NOT_FOUND only means that the record has moved, and the caller is one who may know, says so.
    /// For everybody else the error stays as it is.
    async fn elsewhere(&self, actor: &Actor, subject: SubjectId, error: Error) -> Error {
        if error.code() != Code::NotFound {
            return error;
        }
        let mut who: Vec<Entitled> = Vec::with_capacity(3);
        who.extend(actor.practice.map(Entitled::Practice));
        who.extend(actor.account.map(Entitled::Account));
        who.extend(actor.session.map(Entitled::Session));
        let found = self.store().read("residency.departed", Scope::Subject(subject), move |tx| {
            let who = who.clone();
            Box::pin(async move { residency::departed(tx, subject, &who).await })
        });
        match found.await {
            Ok(Some(home)) => home
                .moved_to
                .into_iter()
                .fold(Error::new(Code::RecordMoved), |error, region| error.moved_to(region, home.epoch)),
            Ok(None) => error,
            Err(failed) => failed,
        }
    }
}

/// A client or a practitioner before a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who {
    account: AccountId,
    subject: SubjectId,
    side: Side,
}

/// On which side of the record somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// It is their own.
    Client,
    /// They work for this practice.
    Carer(PracticeId),
}

impl Who {
    /// # Errors
    /// [`Code::NotFound`] for a client before somebody else's record, as though there were none;
    /// [`Code::Forbidden`] for roles that have nothing to do with records.
    fn of(actor: &Actor, subject: SubjectId) -> Result<Self> {
        let account = actor.account()?;
        let side = match actor.role {
            Role::Client if actor.subject == Some(subject) => Side::Client,
            Role::Client => return Err(Error::new(Code::NotFound)),
            Role::Practitioner | Role::PracticeAdmin => {
                Side::Carer(actor.practice.ok_or_else(|| Error::new(Code::Forbidden).at("practitioner"))?)
            }
            _ => return Err(Error::new(Code::Forbidden).at("client or practitioner")),
        };
        Ok(Self { account, subject, side })
    }

    const fn reader(&self) -> Reader {
        match self.side {
            Side::Client => Reader::Client,
            Side::Carer(_) => Reader::Caseload(self.account),
        }
    }

    const fn scope(&self) -> Scope {
        match self.side {
            Side::Client => Scope::Subject(self.subject),
            Side::Carer(_) => Scope::Caseload { practitioner: self.account },
        }
    }

    const fn carer(&self) -> Option<Carer> {
        match self.side {
            Side::Client => None,
            Side::Carer(practice) => Some(Carer { practitioner: self.account, practice }),
        }
    }
}
