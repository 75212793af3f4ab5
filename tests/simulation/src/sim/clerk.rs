//! The desk's other side: what people ask, put to the product's own code.

use std::sync::Arc;

use bytes::Bytes;
use domicile_crypto::object::{ObjectOpener, ObjectPlace, ObjectSealer, SEALED_CHUNK};
use domicile_crypto::{aad, open, seal, sha256};
use domicile_objects::{ObjectName, ObjectStore as _};
use domicile_transfer::app::GivenConsent;
use domicile_transfer_protocol::source::Standing;
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{State, TransferStore as _};
use domicile_types::{
    AccountId, Actor, AuditScope, Code, Error, Idempotency, ItemHeader, ItemId, ObjectId, RequestId, Result,
    Role, SubjectId, TransferId, Visibility,
};
use futures::stream::{self, StreamExt as _};
use turmoil::net::{TcpListener, TcpStream};

use super::desk::{Answer, Ask, PORT, Person, receive, send};
use super::region::Running;
use crate::conformance::region as named;
use crate::memory::{NewItem, NewObject};

/// Serves people until the process dies.
pub(super) async fn serve(region: Arc<Running>) {
    region.store.forget_uploads().await.unwrap_or_default();
    let Ok(listener) = TcpListener::bind(("0.0.0.0", PORT)).await else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(attend(Arc::clone(&region), stream));
    }
}

async fn attend(region: Arc<Running>, mut stream: TcpStream) {
    let Ok(question) = receive::<Ask>(&mut stream).await else { return };
    region.process.alive().await;
    let answer = region.answer(question).await.unwrap_or_else(|error| Answer::Refused {
        code: error.code().as_str().to_owned(),
        moved: error.moved().map(|(region, _)| region.to_string()),
    });
    region.process.alive().await;
    // Whoever went away asks again.
    drop(send(&mut stream, &answer).await);
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::new(Code::InvalidRequest))
}

impl Person {
    fn ids(&self) -> Result<(SubjectId, AccountId)> {
        Ok((parsed(&self.subject)?, parsed(&self.account)?))
    }
}

impl Running {
    async fn answer(&self, question: Ask) -> Result<Answer> {
        match question {
            Ask::Write { person, item, version, key, text } => {
                let written =
                    self.write(&person, (parsed(&item)?, version), key, text.as_bytes(), None).await?;
                Ok(Answer::Version(written))
            }
            Ask::Upload { person, object, item, key, text } => {
                self.upload(&person, parsed(&object)?, parsed(&item)?, key, text.into_bytes()).await
            }
            Ask::Read { person, item, version } => self.read(&person, parsed(&item)?, version).await,
            Ask::Fetch { person, object } => self.fetch(&person, parsed(&object)?).await,
            Ask::Move { person, to, key } => {
                let scope = self.client("transfer.requested", &person)?;
                let row = self.transfers.request(scope, named(&to)?, key).await?;
                Ok(transfer(row.transfer, row.state))
            }
            Ask::Look { person, transfer, consent } => self.look(&person, parsed(&transfer)?, consent).await,
            Ask::Withdraw { person, transfer: id } => {
                let (scope, id) = (self.client("consent.withdrawn", &person)?, parsed(&id)?);
                let row = self.transfers.withdraw(scope, id).await?;
                self.withdrawn(id).await;
                Ok(transfer(id, row.state))
            }
            Ask::Operate { transfer: id, what } => self.operate(parsed(&id)?, &what).await,
            Ask::Hold { person, stands } => {
                let (subject, account) = person.ids()?;
                self.store.hold(subject, "simulated".to_owned(), account, stands).await?;
                Ok(Answer::Done)
            }
            Ask::List => {
                let rows = self.store.open().await?.into_iter();
                let shown = rows.filter_map(|row| match row {
                    Row::Source(row) => Some((row.transfer.to_string(), row.state.as_str().to_owned())),
                    Row::Destination(_) => None,
                });
                Ok(Answer::Transfers(shown.collect()))
            }
        }
    }

    /// Acknowledged: from here on nobody may ever open what the destination holds (5).
    async fn withdrawn(&self, id: TransferId) {
        let world = &self.process.world;
        super::world::lock(&world.laws).withdrawn.insert(id);
        let Some(left) = world.regions.get(self.process.host) else { return };
        use domicile_crypto::WrappedKeys as _;
        let key = left.keys.transfer_key(id, domicile_crypto::TransferKey::Travel).await;
        if !matches!(key, Ok(None)) {
            world.broken(format!("invariant 5: the travel key of {id} outlives its withdrawal"));
        }
    }

    fn scope(&self, event: &'static str, actor: Actor) -> Arc<AuditScope> {
        AuditScope::new(event, actor, RequestId::generate(&self.ctx))
    }

    fn client(&self, event: &'static str, person: &Person) -> Result<Arc<AuditScope>> {
        let (subject, account) = person.ids()?;
        let actor = Actor {
            account: Some(account),
            subject: Some(subject),
            authenticated_at: Some(self.ctx.now()),
            ..Actor::of(Role::Client)
        };
        Ok(self.scope(event, actor))
    }

    async fn operate(&self, id: TransferId, what: &str) -> Result<Answer> {
        let operator = || Actor::of(Role::Operator);
        let row = match what {
            "pause" => {
                self.transfers.pause(self.scope("transfer.paused", operator()), id, "simulated").await?
            }
            "resume" => {
                self.transfers.resume(self.scope("transfer.resumed", operator()), id, "simulated").await?
            }
            _ => self.transfers.cancel(self.scope("transfer.cancelled", operator()), id, "simulated").await?,
        };
        Ok(transfer(id, row.state))
    }

    async fn look(&self, person: &Person, id: TransferId, consent: bool) -> Result<Answer> {
        let scope = self.client("transfer.status.read", person)?;
        let state = match self.transfers.status(&scope, id).await?.row {
            Row::Source(row) => row.state,
            Row::Destination(row) => row.state,
        };
        if !consent || state != State::Preflighted {
            return Ok(transfer(id, state));
        }
        let (row, offer) = self.transfers.offer(&scope, id).await?;
        let offer = offer.ok_or_else(|| Error::new(Code::OfferNotReady))?;
        let given = GivenConsent {
            offer: offer.digest()?,
            destination: row.to,
            notice_version: offer.notice_version.clone(),
            locale: "en".to_owned(),
            locator: true,
            psychotherapy: false,
        };
        let scope = self.client("consent.given", person)?;
        let (row, _) = self.transfers.consent(scope, id, given).await?;
        Ok(transfer(id, row.state))
    }

    async fn write(
        &self,
        person: &Person,
        (item, version): (ItemId, u32),
        key: String,
        text: &[u8],
        object: Option<ObjectId>,
    ) -> Result<u32> {
        let (subject, _) = person.ids()?;
        if let Some(known) = self.store.written_under(subject, key.clone()).await? {
            return Ok(known.version);
        }
        let new = self.sealed(person, (item, version), key.clone(), text, object).await?;
        let written = match object {
            None => self.store.write_item(new).await,
            Some(object) => self.store.finish_object(object, new).await,
        };
        match written {
            // Of two requests with one key the later finds what the earlier has written.
            Err(error) if error.code() == Code::Conflict => {
                let known = self.store.written_under(subject, key).await?;
                known.map(|known| known.version).ok_or(error)
            }
            other => other,
        }
    }

    async fn sealed(
        &self,
        person: &Person,
        (item, version): (ItemId, u32),
        key: String,
        text: &[u8],
        object: Option<ObjectId>,
    ) -> Result<NewItem> {
        let (subject, account) = person.ids()?;
        // As the records service does: no key is made for a record that could not be written here.
        self.store.writable(subject).await?;
        let (key_version, record) = self.keyring.record_key(subject, None).await?;
        let now = self.ctx.now();
        let mut header = ItemHeader {
            item_id: item,
            version,
            subject_id: subject,
            revision: 0,
            kind: if object.is_some() { "attachment" } else { "note" }.to_owned(),
            schema: 1,
            practice_id: None,
            practitioner_id: None,
            author_id: account,
            parent_id: None,
            occasion_id: None,
            object_id: object,
            occurred_at: now,
            starts_at: None,
            ends_at: None,
            signed_at: None,
            retain_until: None,
            state: "draft".to_owned(),
            visibility: Visibility::Shared,
            bytes: text.len() as u64,
            digest: [0; 32],
            key_version,
            idempotency: Some(Idempotency { key, fingerprint: sha256(text) }),
            written_at: now,
        };
        let sealed = seal(&record, &self.ctx, &aad::item(&self.region, &header), text)?;
        header.digest = sha256(&sealed);
        Ok(NewItem { header, sealed })
    }

    async fn read(&self, person: &Person, item: ItemId, version: Option<u32>) -> Result<Answer> {
        let (subject, _) = person.ids()?;
        let row = self.store.read_item(subject, item, version, self.reads).await?;
        let h = &row.header;
        let clear = match &row.sealed {
            Some(sealed) => {
                let key = self.keyring.record_key_at(subject, h.practice_id, h.key_version).await?;
                open(&key, &aad::item(&self.region, h), sealed)?
            }
            None => {
                let found = self.store.travelled(h.item_id, h.version).await?;
                // Sealed again between the two looks: whoever asks again reads it.
                let (transfer, head, staged) = found.ok_or_else(|| Error::new(Code::StoreUnavailable))?;
                self.transfers.read_travelling(transfer, &head, &staged).await?
            }
        };
        self.text(subject, &clear, h.version)
    }

    fn text(&self, subject: SubjectId, clear: &[u8], version: u32) -> Result<Answer> {
        let text = String::from_utf8(clear.to_vec()).map_err(|_| Error::new(Code::ContentDamaged))?;
        let home = self.store.disk().look().homes.get(&subject).map(|home| home.standing);
        let home = matches!(home, Some(Standing::Active | Standing::Frozen));
        Ok(Answer::Text { text, version, home })
    }

    fn place(&self, subject: SubjectId, object: ObjectId, key_version: u32) -> ObjectPlace {
        ObjectPlace { region: self.region.clone(), subject, practice: None, object, key_version }
    }

    async fn upload(
        &self,
        person: &Person,
        object: ObjectId,
        item: ItemId,
        key: String,
        content: Vec<u8>,
    ) -> Result<Answer> {
        let (subject, _) = person.ids()?;
        if let Some(known) = self.store.written_under(subject, key.clone()).await? {
            return Ok(Answer::Version(known.version));
        }
        self.store.writable(subject).await?;
        let (key_version, record) = self.keyring.record_key(subject, None).await?;
        let length = content.len() as u64;
        self.store.begin_object(NewObject { object, subject, length, chunks: 1, key_version }).await?;
        let mut sealer = ObjectSealer::new(record, self.place(subject, object, key_version));
        let sealed = Bytes::from(sealer.seal_next(&self.ctx, &content, true)?);
        let name = ObjectName::object(subject, object);
        let stored = self.objects.create(&name, stream::iter([Ok(sealed)]).boxed()).await;
        let written = match stored {
            Ok(_) => self.write(person, (item, 1), key, b"an object", Some(object)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &written
            && error.code() != Code::AnswerLost
        {
            self.objects.delete(&name).await?;
            self.store.forget_upload(object).await?;
        }
        written.map(Answer::Version)
    }

    async fn fetch(&self, person: &Person, object: ObjectId) -> Result<Answer> {
        let (subject, _) = person.ids()?;
        let row = self.store.read_object(subject, object, self.reads).await?;
        let clear = match row.transfer.filter(|_| row.travelling) {
            Some(transfer) => self.transfers.read_travelling_chunk(transfer, object, 0, row.chunks).await?,
            None => {
                let name = ObjectName::copy(subject, object, row.copy);
                let sealed = self.objects.read_range(&name, 0, SEALED_CHUNK as u64).await?;
                let key = self.keyring.record_key_at(subject, None, row.key_version).await?;
                let place = self.place(subject, object, row.key_version);
                ObjectOpener::new(key, place).open(0, row.chunks, &sealed)?
            }
        };
        self.text(subject, &clear, 1)
    }
}

fn transfer(id: TransferId, state: State) -> Answer {
    Answer::Transfer { id: id.to_string(), state: state.as_str().to_owned() }
}
