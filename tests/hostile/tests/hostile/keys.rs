//! Wrapped keys as they are stored: every byte of them, and each in another's place.

use std::sync::Arc;

use domicile_crypto::{KeyService, Purpose, SubjectSecret, TransferKey, WrappedKey, WrappedKeys as _};
use domicile_hostile::damage::{Tally, every};
use domicile_hostile::world::{PRIVATE, known, region};
use domicile_kms::testing::{MemoryKeys, key_service};
use domicile_kms::{Keyring, RegionKey};
use domicile_types::{Code, Ctx, Error, PracticeId, Result, SubjectId, TransferId};

use crate::print;

/// A wrapped key that does not unwrap where it stands; or one whose wrapping key there is not.
const REFUSED: &[Code] = &[Code::KeyDenied, Code::KeyDestroyed];

/// Whose keys they are.
#[derive(Clone, Copy)]
struct Owner {
    subject: SubjectId,
    practice: PracticeId,
    transfer: TransferId,
}

impl Owner {
    fn new(ctx: &Ctx) -> Self {
        Self {
            subject: SubjectId::generate(ctx),
            practice: PracticeId::generate(ctx),
            transfer: TransferId::generate(ctx),
        }
    }
}

/// One key of each kind as it is stored.
#[derive(Clone)]
struct Shelf {
    practice: Vec<u8>,
    record: Vec<u8>,
    secret: Vec<u8>,
    travel: Vec<u8>,
    private: Vec<u8>,
    region: Vec<u8>,
}

type Field = fn(&mut Shelf) -> &mut Vec<u8>;

const FIELDS: [(&str, Field); 6] = [
    ("practice key", |shelf| &mut shelf.practice),
    ("record key", |shelf| &mut shelf.record),
    ("subject's secret", |shelf| &mut shelf.secret),
    ("travel key", |shelf| &mut shelf.travel),
    ("private key of an attempt", |shelf| &mut shelf.private),
    ("region key", |shelf| &mut shelf.region),
];

struct Site {
    ctx: Ctx,
    service: Arc<dyn KeyService>,
    region: &'static str,
}

impl Site {
    fn keyring(&self, rows: Arc<MemoryKeys>) -> Keyring {
        Keyring::new(Arc::clone(&self.service), rows, region(self.region), self.ctx.clone())
    }

    /// Makes one key of each kind with the region's own keyring.
    async fn fill(&self, owner: Owner) -> Shelf {
        let rows = Arc::new(MemoryKeys::default());
        let keyring = self.keyring(Arc::clone(&rows));
        keyring.record_key(owner.subject, Some(owner.practice)).await.unwrap();
        keyring.subject_secret(owner.subject, SubjectSecret::Pseudonym).await.unwrap();
        keyring.store_transfer_key(owner.transfer, TransferKey::Travel, &[9; 32]).await.unwrap();
        keyring.store_transfer_key(owner.transfer, TransferKey::HpkePrivate, &PRIVATE).await.unwrap();
        keyring.region_key(RegionKey::BlindIndex).await.unwrap();
        let own = rows.practice_key(None).await.unwrap().unwrap();
        assert_eq!(own.version, 1, "the wrapping key of clients' own items");
        Shelf {
            practice: rows.practice_key(Some(owner.practice)).await.unwrap().unwrap().wrapped,
            record: rows.record_key(owner.subject, Some(owner.practice)).await.unwrap().unwrap().wrapped,
            secret: [
                own.wrapped,
                rows.subject_secret(owner.subject, SubjectSecret::Pseudonym).await.unwrap().unwrap(),
            ]
            .concat(),
            travel: rows.transfer_key(owner.transfer, TransferKey::Travel).await.unwrap().unwrap(),
            private: rows.transfer_key(owner.transfer, TransferKey::HpkePrivate).await.unwrap().unwrap(),
            region: rows.region_key(Purpose::BlindIndex).await.unwrap().unwrap(),
        }
    }

    /// Opens every key of a shelf, with a keyring that has none in memory.
    async fn open(&self, owner: Owner, shelf: &Shelf) -> Result<()> {
        let rows = Arc::new(MemoryKeys::default());
        let key = |wrapped: &[u8]| WrappedKey { version: 1, wrapped: wrapped.to_vec() };
        rows.insert_practice_key(Some(owner.practice), &key(&shelf.practice)).await?;
        rows.insert_record_key(owner.subject, Some(owner.practice), &key(&shelf.record)).await?;
        // The secret stands behind its wrapping key here: 4 bytes and a sealed key of 60.
        let (own, secret) = shelf.secret.split_at_checked(64).ok_or_else(|| Error::new(Code::KeyDenied))?;
        rows.insert_practice_key(None, &key(own)).await?;
        rows.insert_subject_secret(owner.subject, SubjectSecret::Pseudonym, secret).await?;
        rows.insert_transfer_key(owner.transfer, TransferKey::Travel, &shelf.travel).await?;
        rows.insert_transfer_key(owner.transfer, TransferKey::HpkePrivate, &shelf.private).await?;
        rows.insert_region_key(Purpose::BlindIndex, &shelf.region).await?;
        let keyring = self.keyring(rows);
        keyring.record_key_at(owner.subject, Some(owner.practice), 1).await?;
        keyring.find_subject_secret(owner.subject, SubjectSecret::Pseudonym).await?;
        keyring.travel_key(owner.transfer).await?;
        keyring.load_transfer_key(owner.transfer, TransferKey::HpkePrivate).await?;
        keyring.region_key(RegionKey::BlindIndex).await.map(drop)
    }
}

#[tokio::test]
async fn every_byte_of_every_wrapped_key() {
    let ctx = known(20);
    let site = Site { service: key_service(&ctx), ctx: ctx.clone(), region: "eu" };
    let owner = Owner::new(&ctx);
    let (shelf, mut tally) = (site.fill(owner).await, Tally::default());
    site.open(owner, &shelf).await.unwrap();
    for (what, field) in FIELDS {
        let mut all = Vec::new();
        every(field(&mut shelf.clone()), |how, wrong| all.push((how, wrong)));
        for (how, wrong) in all {
            let mut changed = shelf.clone();
            *field(&mut changed) = wrong;
            tally.refused(&format!("wrapped {what}"), how, site.open(owner, &changed).await, REFUSED);
        }
    }
    print(&tally, 1_500);
}

#[tokio::test]
async fn every_wrapped_key_in_anothers_place() {
    let ctx = known(21);
    let service = key_service(&ctx);
    let site = Site { service: Arc::clone(&service), ctx: ctx.clone(), region: "eu" };
    let owner = Owner::new(&ctx);
    let (shelf, mut tally) = (site.fill(owner).await, Tally::default());
    let mut strangers = vec![(
        "another key service",
        Site { service: key_service(&ctx), ctx: ctx.clone(), region: "eu" },
        owner,
    )];
    // The same root key under another region's name.
    strangers.push(("another region", Site { service, ctx: ctx.clone(), region: "ca" }, owner));
    let fresh = Owner::new(&ctx);
    let of = |change: fn(&mut Owner, Owner)| {
        let mut other = owner;
        change(&mut other, fresh);
        other
    };
    let owners = [
        ("another client", of(|owner, other| owner.subject = other.subject)),
        ("another practice", of(|owner, other| owner.practice = other.practice)),
        ("another transfer", of(|owner, other| owner.transfer = other.transfer)),
    ];
    for (what, stranger, owner) in &strangers {
        tally.refused(
            &format!("wrapped keys opened for {what}"),
            "swapped",
            stranger.open(*owner, &shelf).await,
            REFUSED,
        );
        let theirs = stranger.fill(*owner).await;
        for (field_name, field) in FIELDS {
            let mut mixed = shelf.clone();
            *field(&mut mixed) = field(&mut theirs.clone()).clone();
            tally.refused(
                &format!("wrapped {field_name} of {what}"),
                "swapped",
                site.open(owner.to_owned(), &mixed).await,
                REFUSED,
            );
        }
    }
    for (what, other) in owners {
        tally.refused(
            &format!("wrapped keys opened for {what}"),
            "swapped",
            site.open(other, &shelf).await,
            REFUSED,
        );
    }
    // One kind of key as another: what fits by its length must not open by its purpose.
    for (what, field) in FIELDS {
        for (other_name, other) in FIELDS.into_iter().filter(|(name, _)| *name != what) {
            let mut mixed = shelf.clone();
            *field(&mut mixed) = other(&mut shelf.clone()).clone();
            tally.refused(
                &format!("wrapped {other_name} as {what}"),
                "swapped",
                site.open(owner, &mixed).await,
                REFUSED,
            );
        }
    }
    print(&tally, 40);
}
