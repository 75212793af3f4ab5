//! The sealed fields of accounts and practices, and the blind index that finds an address.
//!
//! A client's fields lie under the record's own key and travel, or die, with the record; staff's and
//! practices' under the region's.

use std::sync::Arc;

use domicile_crypto::{aad, blind, open, seal};
use domicile_kms::{Keyring, RegionKey};
use domicile_types::{AccountId, Code, Ctx, Error, Phi, PracticeId, RegionId, Result, SubjectId};

use super::text::Email;

const EMAIL: &str = "email";
const NAME: &str = "name";

/// An account's fields, sealed.
pub(crate) struct SealedPerson {
    pub(crate) index: [u8; 32],
    pub(crate) email: Vec<u8>,
    pub(crate) name: Vec<u8>,
}

/// Whose account it is, and so which key its fields lie under.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) account: AccountId,
    pub(crate) subject: Option<SubjectId>,
}

/// Seals and opens fields, for one region.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) region: RegionId,
    pub(crate) ctx: Ctx,
}

impl Fields {
    /// The blind index of an address: HMAC-SHA-256 under the region's key.
    pub(crate) async fn index(&self, email: &Email) -> Result<[u8; 32]> {
        let key = self.keyring.region_key(RegionKey::BlindIndex).await?;
        Ok(blind::index(&key, EMAIL, email.expose()))
    }

    pub(crate) async fn seal_person(
        &self,
        owner: Owner,
        email: &Email,
        name: &Phi<String>,
    ) -> Result<SealedPerson> {
        let index = self.index(email).await?;
        let key = match owner.subject {
            Some(subject) => self.keyring.account_key(subject).await?,
            None => self.keyring.region_key(RegionKey::Accounts).await?,
        };
        let sealed = |field: &str, text: &str| {
            seal(&key, &self.ctx, &aad::account_field(&self.region, owner.account, field), text.as_bytes())
        };
        Ok(SealedPerson { index, email: sealed(EMAIL, email.expose())?, name: sealed(NAME, name.expose())? })
    }

    pub(crate) async fn open_email(&self, owner: Owner, sealed: &[u8]) -> Result<Phi<String>> {
        self.open(owner, EMAIL, sealed).await
    }

    pub(crate) async fn open_name(&self, owner: Owner, sealed: &[u8]) -> Result<Phi<String>> {
        self.open(owner, NAME, sealed).await
    }

    pub(crate) async fn seal_practice(&self, practice: PracticeId, name: &Phi<String>) -> Result<Vec<u8>> {
        let key = self.keyring.region_key(RegionKey::Accounts).await?;
        seal(&key, &self.ctx, &aad::practice_field(&self.region, practice, NAME), name.expose().as_bytes())
    }

    pub(crate) async fn open_practice(&self, practice: PracticeId, sealed: &[u8]) -> Result<Phi<String>> {
        let key = self.keyring.region_key(RegionKey::Accounts).await?;
        text(&open(&key, &aad::practice_field(&self.region, practice, NAME), sealed)?)
    }

    async fn open(&self, owner: Owner, field: &str, sealed: &[u8]) -> Result<Phi<String>> {
        let key = match owner.subject {
            Some(subject) => self.keyring.find_account_key(subject).await?,
            None => self.keyring.region_key(RegionKey::Accounts).await?,
        };
        text(&open(&key, &aad::account_field(&self.region, owner.account, field), sealed)?)
    }
}

fn text(opened: &[u8]) -> Result<Phi<String>> {
    let text = std::str::from_utf8(opened).map_err(|_| Error::new(Code::ContentDamaged).at("account"))?;
    Ok(Phi::new(text.to_owned()))
}
