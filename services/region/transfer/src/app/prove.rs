//! Destination: before it says that it has the record, everything it has stored of it is read again from where
//! it lies and opened with the keys as they lie there, and not as this process remembers them. What the source
//! erases after that is nowhere else.

use std::sync::Arc;

use domicile_crypto::object::{ObjectOpener, ObjectPlace, SEALED_CHUNK, sealed_offset};
use domicile_crypto::{Key32, aad, open};
use domicile_kms::KeysAtRest;
use domicile_objects::ObjectName;
use domicile_transfer_protocol::rows::{FeedRow, SourceObject};
use domicile_transfer_protocol::{Destination, TransferStore};
use domicile_types::{Code, Error, PracticeId, Result, SubjectId};

use super::release::open_field;
use super::send::Keyed;
use super::work::apart;
use super::{Transfers, parallel};

impl<S: TransferStore> Transfers<S> {
    /// Opens every row and object that came, the account, and every key of the record.
    ///
    /// # Errors
    /// [`Code::KeyDenied`] or [`Code::KeyDestroyed`] when a stored key does not unwrap; [`Code::ContentDamaged`]
    /// when a row, an object or the account does not open; [`Code::ObjectMissing`].
    pub(super) async fn prove(&self, row: &Destination) -> Result<()> {
        let state = || Error::new(Code::TransferState).at(row.state.as_str());
        let subject = row.subject.ok_or_else(state)?;
        let last = row.staged.as_ref().ok_or_else(state)?.final_revision;
        let keys = Arc::new(self.keyring.keys_at_rest(subject).await?);
        tokio::try_join!(
            self.prove_rows(subject, last, &keys),
            self.prove_objects(subject, &keys),
            self.prove_account(subject, &keys)
        )?;
        Ok(())
    }

    async fn prove_rows(&self, subject: SubjectId, last: u64, keys: &KeysAtRest) -> Result<()> {
        let settings = &self.options.settings;
        let mut cursor = 0;
        while cursor < last {
            let feed = self.store.feed(subject, cursor, settings.page_rows, settings.page_bytes).await?;
            cursor = feed.cursor;
            // What was written here since did not come from anywhere.
            let came = feed.rows.into_iter().filter(|row| row.header.revision <= last);
            let keyed = came.map(|row| {
                let key = named(keys, row.header.practice_id, row.header.key_version)?;
                Ok(Keyed { row, key })
            });
            let keyed = keyed.collect::<Result<Vec<_>>>()?;
            let region = self.region.clone();
            let _turn = self.inner.turns.take().await?;
            let opens = move |Keyed { row: FeedRow { header, sealed }, key }: &Keyed| {
                open(key, &aad::item(&region, header), sealed).map(drop)
            };
            apart(move || keyed.iter().try_for_each(opens)).await?;
        }
        Ok(())
    }

    async fn prove_objects(&self, subject: SubjectId, keys: &Arc<KeysAtRest>) -> Result<()> {
        // One that was uploaded here since is in its first file.
        let came = self.store.object_copies(subject).await?.into_iter().filter(|(_, copy)| copy.is_some());
        let work = came.map(|(object, _)| {
            let (this, keys) = (self.clone(), Arc::clone(keys));
            async move {
                match this.store.source_object(subject, object).await? {
                    Some(object) => this.prove_object(&object, &keys).await,
                    // Erased meanwhile, by who may.
                    None => Ok(()),
                }
            }
        });
        parallel::each(self.options.settings.objects_at_once, work).await
    }

    async fn prove_object(&self, object: &SourceObject, keys: &KeysAtRest) -> Result<()> {
        let SourceObject { subject, practice, key_version, chunks, .. } = *object;
        let region = self.region.clone();
        let place = ObjectPlace { region, subject, practice, object: object.object, key_version };
        let opener = ObjectOpener::new(named(keys, practice, key_version)?, place);
        let name = ObjectName::copy(subject, object.object, object.copy);
        let mut length = 0;
        for index in 0..chunks {
            let sealed = self.objects.read_range(&name, sealed_offset(index), SEALED_CHUNK as u64).await?;
            let _turn = self.inner.turns.take().await?;
            length += opener.open(index, chunks, &sealed)?.len() as u64;
        }
        if length == object.length { Ok(()) } else { Err(Error::new(Code::ContentDamaged).at("object")) }
    }

    async fn prove_account(&self, subject: SubjectId, keys: &KeysAtRest) -> Result<()> {
        let Some(sealed) = self.store.account_sealed(subject).await? else { return Ok(()) };
        let key = named(keys, None, 1)?;
        for (field, value) in [("email", &sealed.email), ("name", &sealed.name)] {
            open_field(&self.region, &key, &sealed, field, value.as_deref())?;
        }
        Ok(())
    }
}

/// The key that something is sealed under, as it is stored.
fn named(keys: &KeysAtRest, practice: Option<PracticeId>, version: u32) -> Result<Key32> {
    keys.get(&(practice, version)).cloned().ok_or_else(|| Error::new(Code::KeyDestroyed).at("record key"))
}
