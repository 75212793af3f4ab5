//! One small transfer, made by the product's own code: a record of three items and an object, its page and
//! its object on their way, its key release. The same seed gives the same bytes, but for the HPKE envelope.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domicile_crypto::travel::{Sealer, TravelHeader, Unit};
use domicile_crypto::{Key32, aad, hpke, seal, sha256};
use domicile_proto::transfer::v1 as pb;
use domicile_transfer::app::SentPage;
use domicile_transfer::arriving::{
    ArrivingObject, ArrivingPage, Keyed, Page, RecordKeys, Route, check_root, object_digest, open_rows,
    openers, page_parts, seal_again, seal_page, seal_release,
};
use domicile_transfer_protocol::destination::{ConsentSeen, ReleasedSeen};
use domicile_transfer_protocol::manifest::{Manifest, ObjectEntry, RowEntry};
use domicile_transfer_protocol::release::KeyRelease;
use domicile_transfer_protocol::rows::{
    AccountRow, ControlRows, FeedRow, ObjectRow, SecretRow, StagedObject, StagedPage, StagedRow,
    TravellingRow,
};
use domicile_transfer_protocol::source::{ConsentRef, NewTransfer, StagedClaim, request};
use domicile_transfer_protocol::{Destination, Digest, Lanes, Numbers, Source, State};
use domicile_types::{
    AccountId, Clock, Code, ConsentId, Ctx, Error, Faults, Idempotency, ItemHeader, ItemId, ObjectId, PageId,
    PracticeId, RegionId, Result, Rng, SubjectId, Timestamp, TransferId, Visibility,
};
use prost::Message as _;

/// A private key of suite 1, the same for everybody: these values protect nothing.
pub const PRIVATE: [u8; hpke::PRIVATE_LEN] = {
    let mut key = [0x11; hpke::PRIVATE_LEN];
    key[0] = 0;
    key
};

/// The instant at which everything happens.
pub const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOON
    }
}

/// Randomness that is the same each time.
struct Known(u8, AtomicU64);

impl Rng for Known {
    fn fill(&self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(32) {
            let number = self.1.fetch_add(1, Ordering::SeqCst);
            let block = sha256(&[&[self.0], &number.to_be_bytes()[..]].concat());
            piece.iter_mut().zip(block).for_each(|(to, from)| *to = from);
        }
    }
}

/// A context in which time stands still and randomness is known.
#[must_use]
pub fn known(seed: u8) -> Ctx {
    Ctx { clock: Arc::new(Still), rng: Arc::new(Known(seed, AtomicU64::new(0))), faults: Faults::none() }
}

/// A region's name.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a region")
}

/// Everything of one transfer, whole.
pub struct World {
    /// Where its randomness comes from.
    pub ctx: Ctx,
    /// The source's row: staged.
    pub source: Source,
    /// The destination's row: released.
    pub destination: Destination,
    /// The travel key.
    pub travel: Key32,
    /// The record as the source has it stored.
    pub stored: Vec<Keyed>,
    /// The page, as messages.
    pub page: Vec<pb::PullPageResponse>,
    /// The object, as messages.
    pub object: Vec<pb::PullObjectResponse>,
    /// What the destination has staged of the page.
    pub pages: Vec<StagedPage>,
    /// Its rows.
    pub rows: Vec<StagedRow>,
    /// The object as staged.
    pub objects: Vec<StagedObject>,
    /// The object's chunks, as they lie in the destination's store.
    pub chunks: Vec<Vec<u8>>,
    /// The control rows.
    pub control: ControlRows,
    /// The key release.
    pub release: KeyRelease,
}

impl World {
    /// A transfer from `eu` to `ca` of its own client and practice.
    ///
    /// # Panics
    /// When the product's own code refuses it.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let ctx = known(seed);
        let (mut source, mut destination) = rows_of(&ctx);
        let travel = Key32::generate(&ctx);
        let object = ObjectId::generate(&ctx);
        let stored = record(&ctx, &source, object);
        let route = Route::of_source(&source).expect("consented");
        let page =
            sealed_page(&ctx, &source, &travel, &route.header(Unit::Page(PageId::generate(&ctx))), &stored);
        let arrived = arrive(&route, &page).expect("a whole page");
        let pages = staged_page(&arrived);
        let (parts, chunks) = sealed_object(&ctx, &travel, &route.header(Unit::Object(object)));
        let objects = vec![arrive_object(&route, object, &parts).expect("a whole object")];
        let root = root(&arrived.rows, &objects);
        source.staged =
            Some(StagedClaim { freeze: 1, final_revision: 3, rows: 3, objects: 1, bytes: 0, root });
        let control = control(&ctx, &source, object);
        let release = seal_release(&ctx, &source, &travel, 2, &control).expect("a release");
        let key_release = Digest(sha256(&release.encode()));
        destination.released = Some(ReleasedSeen { root, epoch: 2, key_release });
        let rows = arrived.rows;
        Self {
            ctx,
            source,
            destination,
            travel,
            stored,
            page,
            object: parts,
            pages,
            rows,
            objects,
            chunks,
            control,
            release,
        }
    }

    /// The route every stream of this transfer has.
    ///
    /// # Panics
    /// Never: it is consented.
    #[must_use]
    pub fn route(&self) -> Route {
        Route::of_destination(&self.destination).expect("consented")
    }

    /// Reads a page as the destination does: on arrival, at adoption, when it is sealed again.
    ///
    /// # Errors
    /// The product's.
    pub fn read_page(&self, messages: &[Vec<u8>]) -> Result<()> {
        let decode =
            |bytes: &Vec<u8>| pb::PullPageResponse::decode(bytes.as_slice()).map_err(|_| unreadable());
        let messages = messages.iter().map(decode).collect::<Result<Vec<_>>>()?;
        let page = arrive(&self.route(), &messages)?;
        self.open(&page.rows, &staged_page(&page))
    }

    /// Reads an object's stream as the destination does: on arrival, and when it is sealed again.
    ///
    /// # Errors
    /// The product's.
    pub fn read_object(&self, messages: &[Vec<u8>]) -> Result<()> {
        let decode =
            |bytes: &Vec<u8>| pb::PullObjectResponse::decode(bytes.as_slice()).map_err(|_| unreadable());
        let messages = messages.iter().map(decode).collect::<Result<Vec<_>>>()?;
        let object = self.objects[0].sent.object;
        let staged = arrive_object(&self.route(), object, &messages)?;
        let chunk = |message: &pb::PullObjectResponse| match &message.part {
            Some(pb::pull_object_response::Part::Chunk(chunk)) => Some(chunk.to_vec()),
            _ => None,
        };
        let chunks: Vec<Vec<u8>> = messages.iter().filter_map(chunk).collect();
        self.open_object(&staged, &chunks)
    }

    /// Opens a staged object chunk by chunk.
    ///
    /// # Errors
    /// [`Code::ChunkDamaged`].
    pub fn open_object(&self, staged: &StagedObject, chunks: &[Vec<u8>]) -> Result<()> {
        let header = self.route().header(Unit::Object(staged.sent.object));
        let head = &staged.head;
        let head = domicile_crypto::travel::TravelHead::from_parts(
            head.header.clone(),
            &head.salt,
            &head.commitment,
        )?;
        let mut opener = domicile_crypto::travel::Opener::new(&self.travel, &head, &header)?;
        for (index, chunk) in chunks.iter().enumerate() {
            opener.open_next(chunk, &[], index + 1 == usize::try_from(staged.sent.chunks).unwrap_or(0))?;
        }
        opener.finish()
    }

    /// Opens what is staged: headers as adoption does, payloads as sealing them again does.
    ///
    /// # Errors
    /// The product's.
    pub fn open(&self, rows: &[StagedRow], pages: &[StagedPage]) -> Result<()> {
        let openers = openers(&self.destination, &self.travel, pages)?;
        let adopted = open_rows(&openers, rows, self.source.subject)?;
        let mut keys = RecordKeys::new();
        for row in &adopted {
            keys.insert(row.header.practice_id, (1, Key32::generate(&self.ctx)));
        }
        for (row, adopted) in rows.iter().zip(adopted) {
            let travelling = TravellingRow { header: adopted.header, staged: row.clone() };
            seal_again(&self.ctx, &self.destination.to, &openers, &keys, travelling)?;
        }
        Ok(())
    }

    /// Adopts what is staged: the root first.
    ///
    /// # Errors
    /// The product's.
    pub fn adopt(&self, rows: &[StagedRow], pages: &[StagedPage], objects: &[StagedObject]) -> Result<()> {
        check_root(&self.destination, rows, objects)?;
        self.open(rows, pages)?;
        objects.iter().try_for_each(|object| self.open_object(object, &self.chunks))
    }

    /// Seals the stored record again, under another header or other rows.
    ///
    /// # Errors
    /// [`Code::ContentDamaged`] when a stored row does not open.
    pub fn seal(&self, header: &TravelHeader, stored: &[Keyed]) -> Result<Vec<pb::PullPageResponse>> {
        let (head, rows, _) = seal_page(&self.ctx, &self.source.from, &self.travel, header, stored)?;
        Ok(page_parts(SentPage { head, rows, cursor: 3, revision: 3 }))
    }
}

/// Messages as bytes.
pub fn wire<M: prost::Message>(messages: &[M]) -> Vec<Vec<u8>> {
    messages.iter().map(prost::Message::encode_to_vec).collect()
}

/// What the executor makes of an answer that is no message.
#[must_use]
pub fn unreadable() -> Error {
    Error::new(Code::PeerSilent)
}

/// Takes in a page's messages.
///
/// # Errors
/// [`Code::ChunkDamaged`].
pub fn arrive(route: &Route, messages: &[pb::PullPageResponse]) -> Result<Page> {
    let mut arriving = ArrivingPage::default();
    for message in messages {
        if let Some(page) = arriving.take_in(message.part.clone(), route)? {
            return Ok(page);
        }
    }
    Err(Error::new(Code::ChunkDamaged).at("cut"))
}

/// The page's row at the destination.
#[must_use]
pub fn staged_page(page: &Page) -> Vec<StagedPage> {
    page.rows.first().map(|row| StagedPage { page: row.page, head: page.head.clone() }).into_iter().collect()
}

/// Takes in an object's messages.
///
/// # Errors
/// [`Code::ChunkDamaged`].
pub fn arrive_object(
    route: &Route,
    object: ObjectId,
    messages: &[pb::PullObjectResponse],
) -> Result<StagedObject> {
    let damaged = || Error::new(Code::ChunkDamaged).at("cut");
    let mut parts = messages.iter().map(|message| message.part.clone());
    let Some(Some(pb::pull_object_response::Part::Head(head))) = parts.next() else { return Err(damaged()) };
    let mut arriving = ArrivingObject::new(head);
    for part in parts {
        if arriving.take_in(part.ok_or_else(damaged)?)?.is_none() {
            break;
        }
    }
    arriving.staged(object, route)
}

/// The Merkle root over what is staged.
///
/// # Panics
/// Never with so few.
#[must_use]
pub fn root(rows: &[StagedRow], objects: &[StagedObject]) -> Digest {
    let row = |row: &StagedRow| RowEntry {
        item: row.item,
        version: row.version,
        revision: row.revision,
        digest: row.digest,
    };
    let object = |object: &StagedObject| ObjectEntry {
        object: object.sent.object,
        chunks: object.sent.chunks,
        digest: object.sent.digest,
    };
    let mut manifest =
        Manifest { rows: rows.iter().map(row).collect(), objects: objects.iter().map(object).collect() };
    manifest.root().expect("a root")
}

fn rows_of(ctx: &Ctx) -> (Source, Destination) {
    let new = NewTransfer {
        transfer: TransferId::generate(ctx),
        attempt: 3,
        subject: SubjectId::generate(ctx),
        account: AccountId::generate(ctx),
        from: region("eu"),
        to: region("ca"),
        now: NOON,
    };
    let mut source = request(new, &Numbers::default()).row;
    let (id, digest) = (ConsentId::generate(ctx), Digest(ctx.random()));
    let public = hpke::public_of(&PRIVATE).expect("a key");
    source.state = State::Staged;
    source.consent = Some(ConsentRef { id, digest, expires_at: NOON });
    source.hpke_public = Some(public.clone());
    source.freeze = 1;
    let destination = Destination {
        transfer: source.transfer,
        attempt: source.attempt,
        from: source.from.clone(),
        to: source.to.clone(),
        state: State::Released,
        abort: None,
        lanes: Lanes::default(),
        token: 0,
        requested_at: NOON,
        changed_at: NOON,
        refused: None,
        consent: Some(ConsentSeen { id, digest, expires_at: NOON }),
        hpke_public: Some(public),
        cursor: 3,
        revision: 3,
        compare: false,
        frozen: None,
        staged: None,
        released: None,
        subject: None,
        provable_at: None,
    };
    (source, destination)
}

/// Three items: a practice's note, the client's own reflection, and one that describes an object.
fn record(ctx: &Ctx, source: &Source, object: ObjectId) -> Vec<Keyed> {
    let practice = PracticeId::generate(ctx);
    let keys = BTreeMap::from([(Some(practice), Key32::generate(ctx)), (None, Key32::generate(ctx))]);
    let kinds =
        [("note", Some(practice), None), ("reflection", None, None), ("attachment", None, Some(object))];
    let item = |(at, (kind, practice, object)): (usize, (&str, Option<PracticeId>, Option<ObjectId>))| {
        let payload = format!("what the client said, {at}").into_bytes();
        let mut header = header(ctx, source.subject, kind, u64::try_from(at).unwrap_or(0) + 1);
        header.practice_id = practice;
        header.object_id = object;
        header.bytes = payload.len() as u64;
        let key = keys[&practice].clone();
        let sealed = seal(&key, ctx, &aad::item(&source.from, &header), &payload).expect("sealed");
        header.digest = sha256(&sealed);
        Keyed { row: FeedRow { header, sealed }, key }
    };
    kinds.into_iter().enumerate().map(item).collect()
}

fn header(ctx: &Ctx, subject: SubjectId, kind: &str, revision: u64) -> ItemHeader {
    ItemHeader {
        item_id: ItemId::generate(ctx),
        version: 1,
        subject_id: subject,
        revision,
        kind: kind.to_owned(),
        schema: 1,
        practice_id: None,
        practitioner_id: Some(AccountId::generate(ctx)),
        author_id: AccountId::generate(ctx),
        parent_id: None,
        occasion_id: None,
        object_id: None,
        occurred_at: NOON,
        starts_at: Some(NOON),
        ends_at: None,
        signed_at: Some(NOON),
        retain_until: None,
        state: "draft".to_owned(),
        visibility: Visibility::Shared,
        bytes: 0,
        digest: [0; 32],
        key_version: 1,
        idempotency: Some(Idempotency { key: "one".to_owned(), fingerprint: [4; 32] }),
        written_at: NOON,
    }
}

fn sealed_page(
    ctx: &Ctx,
    source: &Source,
    travel: &Key32,
    header: &TravelHeader,
    stored: &[Keyed],
) -> Vec<pb::PullPageResponse> {
    let (head, rows, _) = seal_page(ctx, &source.from, travel, header, stored).expect("a page");
    page_parts(SentPage { head, rows, cursor: 3, revision: 3 })
}

/// An object of three small chunks, sealed as the source streams it; and its chunks alone.
fn sealed_object(
    ctx: &Ctx,
    travel: &Key32,
    header: &TravelHeader,
) -> (Vec<pb::PullObjectResponse>, Vec<Vec<u8>>) {
    use pb::pull_object_response::Part;
    let plains: [&[u8]; 3] = [&[5; 60], &[6; 60], &[7; 21]];
    let (mut sealer, head) = Sealer::new(travel, header, ctx).expect("a stream");
    let chunks: Vec<Vec<u8>> = plains
        .iter()
        .enumerate()
        .map(|(at, plain)| sealer.seal_next(plain, &[], at + 1 == plains.len()).expect("a chunk"))
        .collect();
    let digests: Vec<[u8; 32]> = chunks.iter().map(|chunk| sha256(chunk)).collect();
    let length = plains.iter().map(|plain| plain.len() as u64).sum();
    let end = pb::ObjectEnd { chunks: 3, digest: object_digest(&digests, length).to_vec().into(), length };
    let head = pb::TravelHead {
        header: head.header.into(),
        salt: head.salt.to_vec().into(),
        commitment: head.commitment.to_vec().into(),
    };
    let mut parts = vec![Part::Head(head)];
    parts.extend(chunks.iter().map(|chunk| Part::Chunk(chunk.clone().into())));
    parts.push(Part::End(end));
    (parts.into_iter().map(|part| pb::PullObjectResponse { part: Some(part) }).collect(), chunks)
}

fn control(ctx: &Ctx, source: &Source, object: ObjectId) -> ControlRows {
    let account = AccountRow {
        account: source.account,
        email: Some("someone@example.org".to_owned()),
        name: None,
        password_phc: None,
        invite_hash: None,
        invite_expires: None,
        state: "active".to_owned(),
        created_at: NOON,
    };
    ControlRows {
        subject: source.subject,
        attempt: source.attempt,
        region_choice: "client".to_owned(),
        revision: 3,
        control_revision: 1,
        account: Some(account),
        care: Vec::new(),
        grants: Vec::new(),
        holds: Vec::new(),
        consents: Vec::new(),
        events: Vec::new(),
        secrets: vec![SecretRow { purpose: "pseudonym".to_owned(), key: ctx.random::<32>().to_vec() }],
        objects: vec![ObjectRow { object, item: None, practice: None, length: 141, chunks: 3 }],
    }
}
