//! Canaries: more than ten thousand words planted in everything a caller can send are found in no log, error,
//! trace, metric, audit export, database file, object, backup or temporary file of a whole journey, on both
//! databases, one record moved and one not (P8).
#![cfg(test)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use domicile_cli::Client;
use domicile_cli::client::answer;
use domicile_cli::place::ClientFile;
use domicile_proto::identity::v1::{CreateClientRequest, SignInRequest};
use domicile_proto::records::v1::import_fhir_request::Part;
use domicile_proto::records::v1::payload::Kind;
use domicile_proto::records::v1::{ImportFhirRequest, ImportHeader, ItemDraft, Payload, PutItemRequest};
use domicile_proto::transfer::v1::TransferState;
use domicile_rpc::{Channel, Endpoint, Pem, ServerIdentity, TcpNet, connect};
use domicile_store::Backend;
use domicile_tests::abuse::peer::{as_coordinator, as_region};
use domicile_tests::abuse::{framed, raw, whole};
use domicile_tests::canaries::{Aviary, Finder};
use domicile_tests::region::PASSWORD;
use domicile_tests::world::moves::{attach, reaches};
use domicile_tests::world::{Login, Outcome, Patient, Practice, Tuning, World, pause};
use futures::stream;
use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor, Value};

#[path = "telemetry/receiver.rs"]
#[expect(dead_code, reason = "the collector of the telemetry tests can do more")]
mod receiver;

use receiver::{Answer, Receiver};

/// What must be planted at least.
const ENOUGH: usize = 10_000;
/// How long one call may take.
const LONGEST: Duration = Duration::from_secs(5);
const PAYLOAD: &str = "domicile.records.v1.Payload";

#[tokio::test]
async fn nothing_a_person_typed_is_found_on_sqlite() {
    journey(Backend::Sqlite).await.unwrap();
}

#[tokio::test]
async fn nothing_a_person_typed_is_found_on_postgres() {
    journey(Backend::Postgres).await.unwrap();
}

/// A search that finds nothing shows nothing: each form, written by others' code where there is some, is
/// found in a file, also across the pieces in which a file is read.
#[test]
fn the_finder_finds_every_form() {
    let mut aviary = Aviary::new();
    let finder = Finder::new(aviary.mark()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control");
    let word = aviary.one();
    let wide = |bytes: fn(u16) -> [u8; 2]| word.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut controls = vec![
        word.clone().into_bytes(),
        word.to_lowercase().into_bytes(),
        word.to_uppercase().into_bytes(),
        hex(&word).into_bytes(),
        hex(&word).to_uppercase().into_bytes(),
        hex(&word.to_lowercase()).into_bytes(),
        word.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>().into_bytes(),
        word.bytes().map(|byte| format!("\\u{:04x}", u32::from(byte))).collect::<String>().into_bytes(),
        format!("{:?}", word.as_bytes()).into_bytes(),
        serde_json::to_vec(word.as_bytes()).unwrap(),
        serde_json::to_vec(&format!("\"{word}\n")).unwrap(),
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
    ];
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{word}é~?>");
        controls.push(base64::engine::general_purpose::STANDARD.encode(&text).into_bytes());
        controls.push(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&text).into_bytes());
    }
    for control in &controls {
        for room in [0, 4 * 1024 * 1024 - 9] {
            let content = [vec![b'.'; room].as_slice(), control, b"...."].concat();
            std::fs::write(&file, content).unwrap();
            let found = finder.search(folder.path());
            assert!(found.is_err(), "not found: {}", String::from_utf8_lossy(control));
        }
    }
    std::fs::write(&file, vec![b'z'; 9 * 1024 * 1024]).unwrap();
    assert_eq!(finder.search(folder.path()).unwrap(), 1);
    std::fs::write(folder.path().join(aviary.one()), b"").unwrap();
    assert!(finder.search(folder.path()).is_err(), "a name counts too");
}

/// A deployment under observation, and what has been said in it.
struct Journey {
    world: World,
    aviary: Aviary,
    receiver: Receiver,
    practice: Practice,
    /// Refusals as callers see them, whole.
    errors: Vec<String>,
    pool: DescriptorPool,
}

async fn journey(backend: Backend) -> Outcome<()> {
    let mut journey = Journey::begin(backend).await?;
    let moving = journey.patient("mover").await?;
    let staying = journey.patient("stays").await?;
    for patient in [&moving, &staying] {
        journey.content(patient).await?;
    }
    journey.documents(&moving).await?;
    journey.every_rpc(&staying).await?;
    journey.passwords(&staying).await?;
    // Of somebody whose record stays: what a panic left of an upload would hold a transfer up.
    let unlucky = journey.patient("unlucky").await?;
    journey.a_panic(&unlucky).await?;
    let transfers = journey.transfers(&moving, &staying).await?;
    for name in ["coordinator", "eu", "ca"] {
        journey.world.stop(name).await?;
    }
    for transfer in transfers {
        assert!(!transfer.is_empty());
    }
    journey.search()
}

impl Journey {
    /// Everything is logged, in both forms, and sent to a collector.
    async fn begin(backend: Backend) -> Outcome<Self> {
        let mut world = World::start(backend, &["eu", "ca"], &Tuning::default()).await?;
        let receiver = Receiver::start(|_| Answer::Takes).await?;
        for (name, format) in [("eu", "json"), ("ca", "text"), ("coordinator", "json")] {
            world.stop(name).await?;
            let file = world.home(name).join("config.toml");
            let mut settings: toml::Table = std::fs::read_to_string(&file)?.parse()?;
            let log = format!("filter = \"trace\"\nformat = \"{format}\"").parse::<toml::Table>()?;
            let telemetry =
                format!("endpoint = \"{}\"\ninterval = \"1s\"\ndelay = \"200ms\"", receiver.endpoint());
            settings.insert("log".to_owned(), log.into());
            settings.insert("telemetry".to_owned(), telemetry.parse::<toml::Table>()?.into());
            std::fs::write(&file, toml::to_string(&settings)?)?;
            world.restart(name).await?;
        }
        let practice = world.practice("vogel", "eu", &["ca"]).await?;
        let pool = DescriptorPool::decode(domicile_proto::DESCRIPTORS)?;
        Ok(Self { world, aviary: Aviary::new(), receiver, practice, errors: Vec::new(), pool })
    }

    /// A client whose name, address and password are canaries.
    async fn patient(&mut self, name: &str) -> Outcome<Patient> {
        let login = Login {
            email: format!("{}.{name}@client.example", self.aviary.one()).to_lowercase(),
            password: self.aviary.one(),
        };
        let request = CreateClientRequest {
            email: login.email.clone(),
            name: self.aviary.one(),
            practitioner_id: String::new(),
            region_chosen_by_client: true,
        };
        let created = answer(self.practice.home.identity().create_client(request)).await?;
        let client = self.world.activate("eu", &created.invitation, &login).await?;
        Ok(Patient { login, subject: created.subject_id, client })
    }

    fn descriptor(&self, name: &str) -> Outcome<MessageDescriptor> {
        Ok(self.pool.get_message_by_name(name).ok_or("no such message")?)
    }

    /// Every kind of item there is, every text of it a canary; those that this way does not take are refused.
    async fn content(&mut self, patient: &Patient) -> Outcome<()> {
        let payload = self.descriptor(PAYLOAD)?;
        let kinds: Vec<String> = payload.fields().map(|field| field.name().to_owned()).collect();
        let mut written = 0;
        for kind in &kinds {
            let message = self.aviary.fill(&payload, kind);
            let payload = fitting(Payload::decode(message.encode_to_vec().as_slice())?);
            let by_client = matches!(payload.kind, Some(Kind::Reflection(_)));
            let client = if by_client { patient.client.clone() } else { self.practice.home.clone() };
            written += usize::from(self.put(&client, &patient.subject, payload).await);
        }
        assert!(written >= 14, "{written} of {} kinds were taken", kinds.len());
        self.a_long_form(patient).await
    }

    async fn a_long_form(&mut self, patient: &Patient) -> Outcome<()> {
        use domicile_proto::records::v1::{Answer, FormResponse};
        for _ in 0..2 {
            let answers = (0..250)
                .map(|_| Answer { question: self.aviary.text(3), text: self.aviary.text(4) })
                .collect();
            let form = Kind::FormResponse(FormResponse { form: self.aviary.one(), answers });
            let home = self.practice.home.clone();
            assert!(self.put(&home, &patient.subject, Payload { kind: Some(form) }).await);
        }
        Ok(())
    }

    /// Writes an item; a refusal's whole text is kept for the search.
    async fn put(&mut self, client: &Client, subject: &str, payload: Payload) -> bool {
        let draft = ItemDraft { payload: Some(payload), ..Default::default() };
        let request = PutItemRequest {
            subject_id: subject.to_owned(),
            idempotency_key: World::key(),
            draft: Some(draft),
        };
        let refused = client.records().put_item(request).await.err();
        self.errors.extend(refused.iter().map(|status| format!("{status:?}")));
        refused.is_none()
    }

    /// Attachments and FHIR bundles, whole and broken.
    async fn documents(&mut self, patient: &Patient) -> Outcome<()> {
        let content = self.aviary.text(2_000);
        attach(&self.practice.home, &patient.subject, content.as_bytes()).await?;
        let entries: Vec<_> = (0..200).map(|_| self.resource()).collect();
        let bundle = serde_json::json!({ "resourceType": "Bundle", "type": "collection", "entry": entries });
        let text = bundle.to_string();
        self.import(patient, text.as_bytes()).await;
        assert!(self.errors.iter().all(|error| !error.contains("DOM-RECORD-008")), "the bundle was taken");
        let half = text.get(..text.len() / 2).unwrap_or(&text).as_bytes();
        let word = self.aviary.one();
        let broken = [
            half.to_vec(),
            format!("{{\"resourceType\": \"{word}\", \"entry\": 7}}").into_bytes(),
            format!("{{\"{word}\": [").into_bytes(),
            [word.as_bytes(), b"\xff\xfe"].concat(),
        ];
        for text in broken {
            self.import(patient, &text).await;
        }
        Ok(())
    }

    fn resource(&mut self) -> serde_json::Value {
        let resource = serde_json::json!({
            "resourceType": "Patient",
            "id": "1",
            "name": [{ "family": self.aviary.text(3), "given": [self.aviary.one()] }],
            "text": { "div": self.aviary.text(3) },
        });
        serde_json::json!({ "fullUrl": format!("urn:uuid:{}", self.aviary.one()), "resource": resource })
    }

    async fn import(&mut self, patient: &Patient, text: &[u8]) {
        let header = ImportHeader { subject_id: patient.subject.clone(), idempotency_key: World::key() };
        let mut parts = vec![ImportFhirRequest { part: Some(Part::Header(header)) }];
        let pieces = text.chunks(512 * 1024).map(|piece| Part::Content(piece.to_vec()));
        parts.extend(pieces.map(|part| ImportFhirRequest { part: Some(part) }));
        let answer = self.practice.home.records().import_fhir(stream::iter(parts)).await;
        self.errors.extend(answer.err().map(|status| format!("{status:?}")));
    }

    /// Every RPC of both listeners, as everybody there is, with a canary in every field of its message: ids,
    /// names, search terms, codes, whatever it is; in tokens and other metadata too; then cut short.
    async fn every_rpc(&mut self, patient: &Patient) -> Outcome<()> {
        let channels = self.channels(patient).await?;
        let services: Vec<_> = self.pool.services().collect();
        let methods = services.iter().flat_map(|service| {
            let path = format!("/{}", service.full_name());
            service.methods().map(move |method| (format!("{path}/{}", method.name()), method.input()))
        });
        let methods: Vec<_> = methods.filter(|(path, _)| path.starts_with("/domicile.")).collect();
        assert!(methods.len() > 40, "{} methods", methods.len());
        for (path, input) in &methods {
            for channel in &channels {
                // A signed-out session would hide what comes after.
                if path.ends_with("/SignOut") {
                    continue;
                }
                // Streamed requests begin with a header or with content.
                let parts: &[&str] = if input.oneofs().next().is_some() { &["", "content"] } else { &[""] };
                for part in parts {
                    let message = self.aviary.fill(input, part).encode_to_vec();
                    self.send(channel, path, &message).await;
                    self.send(channel, path, message.get(..message.len() / 2).unwrap_or_default()).await;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, channel: &Channel, path: &str, message: &[u8]) {
        let words = [self.aviary.one(), self.aviary.one()];
        let headers =
            [("x-request-id", words[0].as_str()), ("x-note", words[1].as_str()), ("grpc-timeout", "5S")];
        let call = raw(channel, path, &headers, whole(framed(0, message)));
        match tokio::time::timeout(LONGEST, call).await {
            Ok(Ok(status)) => self.errors.push(format!("{status:?}")),
            Ok(Err(error)) => self.errors.push(format!("{error:?} {error}")),
            // A watcher's answer has no end.
            Err(_) => {}
        }
    }

    /// People's listener as everybody, with a token that is none too; the peers' as a region and as the
    /// coordinator.
    async fn channels(&mut self, patient: &Patient) -> Outcome<Vec<Channel>> {
        let place = ClientFile::read(&self.world.folder)?.place(&self.world.folder, "eu")?;
        let people = Endpoint {
            uri: place.endpoint.clone(),
            server: ServerIdentity::Dns("localhost".to_owned()),
            authority: Pem::file(&place.ca),
            identity: None,
        };
        let anyone = connect(people, Arc::new(TcpNet))?;
        let staff = |role: &str| SignInRequest {
            email: format!("{role}@eu.domicile.local"),
            password: PASSWORD.to_owned(),
        };
        let own =
            |login: &Login| SignInRequest { email: login.email.clone(), password: login.password.clone() };
        let logins = [staff("operator"), staff("compliance"), own(&self.practice.login), own(&patient.login)];
        let mut channels = vec![anyone.clone(), anyone.clone().bearer(&self.aviary.one())?];
        for login in logins {
            let token = answer(self.world.anyone("eu")?.identity().sign_in(login)).await?.token;
            channels.push(anyone.clone().bearer(&token)?);
        }
        channels.push(as_region(&self.world, "ca", "eu")?);
        channels.push(as_coordinator(&self.world, "eu")?);
        Ok(channels)
    }

    /// Wrong passwords and addresses that nobody has.
    async fn passwords(&mut self, patient: &Patient) -> Outcome<()> {
        for _ in 0..3 {
            let wrong = [
                SignInRequest { email: patient.login.email.clone(), password: self.aviary.text(2) },
                SignInRequest { email: self.aviary.one(), password: self.aviary.one() },
                SignInRequest {
                    email: format!("{}@nobody.example", self.aviary.one()),
                    password: self.aviary.one(),
                },
            ];
            for request in wrong {
                let refused = self.world.anyone("eu")?.identity().sign_in(request).await.err();
                self.errors.extend(refused.map(|status| format!("{status:?}")));
            }
        }
        Ok(())
    }

    /// A task that panics while it holds what a person sends: the caller hears of a fault, the log where.
    async fn a_panic(&mut self, patient: &Patient) -> Outcome<()> {
        self.world.stop("eu").await?;
        self.world.restart_with("eu", "panic:upload.stored").await?;
        let content = self.aviary.text(50);
        let Err(error) = attach(&self.practice.home, &patient.subject, content.as_bytes()).await else {
            return Err("it did not panic".into());
        };
        assert!(error.to_string().contains("DOM-GENERAL-001"), "{error}");
        self.errors.push(format!("{error:?} {error}"));
        assert!(self.world.log("eu")?.contains("a task ended by a panic"), "the log says that there was one");
        self.world.stop("eu").await?;
        self.world.restart("eu").await
    }

    /// One record moves, the other's consent is taken back.
    async fn transfers(&mut self, moving: &Patient, staying: &Patient) -> Outcome<[String; 2]> {
        let [gone, kept] = [moving.ask("ca").await?, staying.ask("ca").await?];
        staying.consent(&kept).await?;
        staying.withdraw(&kept).await?;
        staying.reaches(&kept.id, TransferState::Aborted).await?;
        moving.consent(&gone).await?;
        let client = loop {
            match self.world.sign_in("ca", &moving.login).await {
                Ok(client) => break client,
                Err(_) => pause().await,
            }
        };
        reaches(&client, &gone.id, TransferState::Closed).await?;
        // The exported bundles stay in the deployment's folder, and are searched with it.
        self.world.verify(["eu", "ca"], &gone.id).await?;
        Ok([gone.id, kept.id])
    }

    fn search(&self) -> Outcome<()> {
        let finder = Finder::new(self.aviary.mark())?;
        assert!(self.aviary.planted() >= ENOUGH, "{} planted", self.aviary.planted());
        let bare = phi_fields(&self.pool);
        let bare: Vec<_> = bare.iter().filter(|field| !self.aviary.fields().contains(*field)).collect();
        assert!(bare.is_empty(), "no canary was in {bare:?}");
        assert!(self.errors.len() > 300, "{} refusals", self.errors.len());
        for error in &self.errors {
            assert!(finder.find(error.as_bytes()).is_none(), "an error tells what a person typed: {error}");
        }
        let messages = self.receiver.messages();
        assert!(messages.len() > 5, "{} exports", messages.len());
        for message in &messages {
            let whole = [message.path.as_bytes(), message.headers.as_bytes(), &message.body].concat();
            assert!(finder.find(&whole).is_none(), "an export tells what a person typed: {}", message.path);
        }
        for name in ["eu", "ca", "coordinator"] {
            assert!(self.world.log(name)?.len() > 10_000, "{name} logged everything");
        }
        let mut places = vec![self.world.folder.clone()];
        for database in self.world.databases.values() {
            let postgres = database.postgres().ok_or("no database")?;
            // Its log and temporary files lie there too.
            places.push(PathBuf::from(postgres.admin("SHOW data_directory")?.trim()));
        }
        let mut files = 0;
        for place in places {
            files += finder.search(&place)?;
        }
        assert!(files > 20, "the search saw {files} files");
        Ok(())
    }
}

/// What a kind asks of its fields besides being text.
fn fitting(mut payload: Payload) -> Payload {
    match &mut payload.kind {
        Some(Kind::Payment(payment)) => {
            payment.currency = "EUR".to_owned();
            payment.method = "cash".to_owned();
        }
        Some(Kind::Session(session)) => session.modality = "video".to_owned(),
        _ => {}
    }
    payload
}

/// Texts and bytes of a person's in the messages that callers can send, by their full names.
fn phi_fields(pool: &DescriptorPool) -> Vec<String> {
    let mut open: Vec<MessageDescriptor> = pool
        .services()
        .filter(|service| service.full_name().starts_with("domicile."))
        .flat_map(|service| service.methods().map(|method| method.input()).collect::<Vec<_>>())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    while let Some(message) = open.pop() {
        if !seen.insert(message.full_name().to_owned()) {
            continue;
        }
        for field in message.fields() {
            match field.kind() {
                prost_reflect::Kind::Message(inner) => open.push(inner),
                prost_reflect::Kind::String | prost_reflect::Kind::Bytes if !technical(pool, &field) => {
                    found.push(field.full_name().to_owned());
                }
                _ => {}
            }
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// Whether a field declares that it tells nothing of a person.
fn technical(pool: &DescriptorPool, field: &prost_reflect::FieldDescriptor) -> bool {
    const TECHNICAL: i32 = 7;
    let Some(extension) = pool.get_extension_by_name("domicile.options.v1.data") else { return false };
    matches!(field.options().get_extension(&extension).as_ref(), Value::EnumNumber(TECHNICAL))
}
