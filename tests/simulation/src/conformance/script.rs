//! A program's state, and the words it leaves.

use std::sync::Arc;

use domicile_evidence::keys::PublicKey;
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{Received, TransferStore};
use domicile_types::{
    AccountId, Ctx, Error, Idempotency, ItemHeader, ItemId, ObjectId, RegionId, Result, SubjectId,
    TransferId, Visibility,
};

use super::{Pair, SeededRng, Site, region};
use crate::memory::NewItem;

/// A program under way on a pair of regions.
pub struct Script<'a, S> {
    pub(super) pair: &'a Pair<S>,
    pub(super) rng: Arc<SeededRng>,
    pub(super) ctx: Ctx,
    pub(super) subjects: Vec<(SubjectId, AccountId)>,
    pub(super) transfers: Vec<TransferId>,
    pub(super) items: Vec<(SubjectId, ItemId, u32)>,
    pub(super) objects: Vec<(SubjectId, ObjectId)>,
    words: Vec<String>,
}

/// Which of the two regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Eu,
    Us,
}

impl At {
    pub(super) const BOTH: [Self; 2] = [Self::Eu, Self::Us];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Eu => "eu",
            Self::Us => "us",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Eu => Self::Us,
            Self::Us => Self::Eu,
        }
    }

    pub(super) fn region(self) -> Result<RegionId> {
        region(self.name())
    }
}

impl<'a, S: Site> Script<'a, S> {
    /// A program of this seed.
    #[must_use]
    pub fn new(pair: &'a Pair<S>, seed: u64) -> Self {
        let ctx = pair.clock.ctx(seed ^ 0x5eed);
        Self {
            pair,
            rng: Arc::new(SeededRng::new(seed)),
            ctx,
            subjects: Vec::new(),
            transfers: Vec::new(),
            items: Vec::new(),
            objects: Vec::new(),
            words: Vec::new(),
        }
    }

    /// What has been written down.
    #[must_use]
    pub fn words(self) -> Vec<String> {
        self.words
    }

    pub(super) fn site(&self, at: At) -> &'a S {
        match at {
            At::Eu => &self.pair.eu,
            At::Us => &self.pair.us,
        }
    }

    pub(super) fn store(&self, at: At) -> &'a S::Store {
        self.site(at).store()
    }

    pub(super) fn key(&self, at: At) -> PublicKey {
        self.site(at).key()
    }

    /// Writes down what an operation answered; an error by its code alone.
    pub(super) fn note<T: std::fmt::Debug>(&mut self, what: &str, answer: &Result<T>) {
        let answer = match answer {
            Ok(value) => format!("{value:?}").replace("\\\"", "\""),
            Err(error) => failed(error),
        };
        self.words.push(format!("{what}: {answer}"));
    }

    /// Writes a line down.
    pub(super) fn say(&mut self, line: String) {
        self.words.push(line);
    }

    /// Opens a record at one region.
    pub(super) async fn open_record(&mut self, at: At) -> Result<SubjectId> {
        let (subject, account) = (SubjectId::generate(&self.ctx), AccountId::generate(&self.ctx));
        let email_index = Some(self.ctx.random());
        let new = crate::memory::NewRecord { subject, account, email_sealed: Some(vec![1, 2]), email_index };
        self.site(at).open_record(new).await?;
        self.subjects.push((subject, account));
        Ok(subject)
    }

    /// An item's next version as a service would write it.
    pub(super) fn item(&mut self, subject: SubjectId, object: Option<ObjectId>) -> NewItem {
        let own: Vec<usize> =
            (0..self.items.len()).filter(|at| self.items.get(*at).is_some_and(|i| i.0 == subject)).collect();
        let again = object.is_none() && !own.is_empty() && self.rng.chance(30);
        let (item, version) = if again {
            let at = own.get(self.pick(own.len())).copied().unwrap_or(0);
            self.items.get(at).map_or((ItemId::generate(&self.ctx), 1), |i| (i.1, i.2 + 1))
        } else {
            (ItemId::generate(&self.ctx), 1)
        };
        let author = self.subjects.iter().find(|(whose, _)| *whose == subject).map(|(_, account)| *account);
        let sealed = self.ctx.random::<24>().to_vec();
        let header = ItemHeader {
            item_id: item,
            version,
            subject_id: subject,
            revision: 0,
            kind: "note".to_owned(),
            schema: 1,
            practice_id: None,
            practitioner_id: None,
            author_id: author.unwrap_or_else(|| AccountId::generate(&self.ctx)),
            parent_id: None,
            occasion_id: None,
            object_id: object,
            occurred_at: self.ctx.now(),
            starts_at: None,
            ends_at: None,
            signed_at: None,
            retain_until: None,
            state: "draft".to_owned(),
            visibility: Visibility::Shared,
            bytes: 8 + self.rng.below(40),
            digest: self.ctx.random(),
            key_version: 1,
            idempotency: Some(Idempotency {
                key: format!("{:032x}", u128::from_be_bytes(self.ctx.random())),
                fingerprint: [7; 32],
            }),
            written_at: self.ctx.now(),
        };
        NewItem { header, sealed }
    }

    /// Keeps in mind what was written.
    pub(super) fn wrote(&mut self, header: &ItemHeader) {
        self.items.retain(|known| known.1 != header.item_id);
        self.items.push((header.subject_id, header.item_id, header.version));
    }

    pub(super) fn pick(&self, of: usize) -> usize {
        usize::try_from(self.rng.below(of as u64)).unwrap_or(0)
    }

    /// Both rows of a transfer: at its source and at its destination.
    pub(super) async fn rows(&self, id: TransferId) -> Result<(At, Row, Option<Row>)> {
        for at in At::BOTH {
            if let Some(row @ Row::Source(_)) = self.store(at).find(id).await? {
                return Ok((at, row, self.store(at.other()).find(id).await?));
            }
        }
        Err(Error::new(domicile_types::Code::NotFound))
    }

    /// The statements one region has made past a number, verified.
    pub(super) async fn lane(&self, from: At, id: TransferId, after: u64) -> Result<Vec<Received>> {
        let lane = self.store(from).statements(id, from.region()?, after).await?;
        lane.into_iter().map(|signed| Received::verify(signed, &self.key(from))).collect()
    }
}

/// An error as the suite compares it.
pub(super) fn failed(error: &Error) -> String {
    match error.moved() {
        Some((region, epoch)) => format!("{} {region} {epoch}", error.code().as_str()),
        None => error.code().as_str().to_owned(),
    }
}
