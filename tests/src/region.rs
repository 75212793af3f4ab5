//! One region in this process: databases, keys, identity and a people's listener, with a clock that
//! tests move, and the people who have an account there.

use std::collections::BTreeMap;
use std::sync::Arc;

use domicile_config::region::SessionSettings;
use domicile_crypto::SigningKey;
use domicile_evidence::keys::{PublicKey, Signer};
use domicile_identity::{Identity, Parts, Person};
use domicile_kms::{Keyring, LocalKeys};
use domicile_proto::identity::v1::identity_service_client::IdentityServiceClient;
use domicile_proto::identity::v1::{
    ActivateAccountRequest, CreateClientRequest, CreateClientResponse, CreatePracticeRequest,
    SignAgreementRequest, SignInRequest, SignInResponse,
};
use domicile_rpc::Channel;
use domicile_store::{Backend, Store};
use domicile_types::{Ctx, RegionId};
use tonic::Status;

use crate::clock::TestClock;
use crate::people::People;
use crate::postgres::Failed;
use crate::stores::Region;

/// The password of everybody in tests.
pub const PASSWORD: &str = "violet harbour tram 41";
/// The version of every region's agreement in tests.
pub const AGREEMENT: &str = "2026-01";

/// A client of the identity service.
pub type IdentityClient = IdentityServiceClient<Channel>;

/// A signing key as `evidence` wants it.
pub struct TestSigner(SigningKey);

impl TestSigner {
    /// A fresh key.
    ///
    /// # Errors
    /// When none can be made.
    pub fn generate() -> Result<Self, Failed> {
        Ok(Self(SigningKey::generate(&Ctx::system())?.0))
    }
}

impl Signer for TestSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
    fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public())
    }
}

/// A region.
pub struct Bench {
    /// The databases.
    pub databases: Region,
    /// The data.
    pub store: Store,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// The statement key.
    pub signer: Arc<TestSigner>,
    /// The time.
    pub clock: TestClock,
    /// The identity service.
    pub identity: Identity,
    /// The people's listener.
    pub people: People,
    /// How the identity service was set.
    pub sessions: SessionSettings,
    _files: tempfile::TempDir,
}

/// A practice whose administrator has signed the agreement.
pub struct Practice {
    /// The practice (UUID text).
    pub id: String,
    /// The administrator's account (UUID text).
    pub admin: String,
    /// The administrator's session.
    pub token: String,
}

impl Bench {
    /// A region of this name that knows the statement keys of these others.
    ///
    /// # Errors
    /// When a part of it cannot be had.
    pub async fn new(name: &str, backend: Backend, peers: &[(&str, PublicKey)]) -> Result<Self, Failed> {
        let clock = TestClock::new();
        let ctx = clock.ctx();
        let databases = Region::fresh(name, backend).await?;
        let store = databases.store(&ctx).await?;
        let files = tempfile::tempdir().map_err(|error| Failed::Io("no temporary folder", error))?;
        let service = Arc::new(LocalKeys::open(&files.path().join("keys.json"), &ctx)?);
        let rows = Arc::new(databases.keys(&ctx).await?);
        let keyring = Arc::new(Keyring::new(service, rows, store.region().clone(), ctx));
        let signer = Arc::new(TestSigner::generate()?);
        let sessions = SessionSettings::default();
        let peers: BTreeMap<RegionId, PublicKey> =
            peers.iter().map(|(name, key)| Ok((region(name)?, *key))).collect::<Result<_, Failed>>()?;
        let identity = identity(store.clone(), &keyring, &signer, peers, &sessions);
        let server = People::server(&store, Arc::new(identity.clone())).add_service(identity.service()).await;
        let people = People::serve(server).await?;
        Ok(Self { databases, store, keyring, signer, clock, identity, people, sessions, _files: files })
    }

    /// Another process's identity service on the same databases.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub async fn replica(&self) -> Result<Identity, Failed> {
        let store = self.databases.store(&self.clock.ctx()).await?;
        Ok(identity(store, &self.keyring, &self.signer, BTreeMap::new(), &self.sessions))
    }

    /// The identity service, for somebody who is not signed in.
    #[must_use]
    pub fn anyone(&self) -> IdentityClient {
        IdentityClient::new(self.people.channel.clone())
    }

    /// The identity service, with a session.
    ///
    /// # Errors
    /// For a token that cannot be sent.
    pub fn signed_in(&self, token: &str) -> Result<IdentityClient, Failed> {
        Ok(IdentityClient::new(self.people.with(token)?))
    }

    /// Sets the password of an invited account.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn activate(&self, code: &str) -> Result<String, Status> {
        let request = ActivateAccountRequest { code: code.to_owned(), password: PASSWORD.to_owned() };
        Ok(self.anyone().activate_account(request).await?.into_inner().account_id)
    }

    /// Opens a session.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn sign_in(&self, email: &str, password: &str) -> Result<SignInResponse, Status> {
        let request = SignInRequest { email: email.to_owned(), password: password.to_owned() };
        Ok(self.anyone().sign_in(request).await?.into_inner())
    }

    /// Activates an invitation and opens a session.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn join(&self, code: &str, email: &str) -> Result<String, Status> {
        self.activate(code).await?;
        Ok(self.sign_in(email, PASSWORD).await?.token)
    }

    /// The first operator's and the first compliance account's sessions. Once a region.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn bootstrap(&self) -> Result<[String; 2], Failed> {
        let person = |name: &str| Person { email: format!("{name}@operator.example"), name: name.to_owned() };
        let [operator, compliance] = self.identity.bootstrap(person("olu"), person("cora")).await?;
        let code = |code: Option<String>| code.ok_or_else(|| Failed::Command("no invitation".to_owned()));
        Ok([
            self.join(&code(operator.invitation)?, "olu@operator.example").await.map_err(failed)?,
            self.join(&code(compliance.invitation)?, "cora@operator.example").await.map_err(failed)?,
        ])
    }

    /// A practice with its administrator, agreement signed.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn practice(&self, operator: &str, admin: &str) -> Result<Practice, Failed> {
        let practice = self.unsigned_practice(operator, admin).await?;
        let request = SignAgreementRequest { version: AGREEMENT.to_owned() };
        self.signed_in(&practice.token)?.sign_agreement(request).await.map_err(failed)?;
        Ok(practice)
    }

    /// A practice with its administrator, agreement not signed yet.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn unsigned_practice(&self, operator: &str, admin: &str) -> Result<Practice, Failed> {
        let request = CreatePracticeRequest {
            name: "Praxis am Hafen".to_owned(),
            admin_email: admin.to_owned(),
            admin_name: "Paula Adler".to_owned(),
            data_role: "controller".to_owned(),
        };
        let created = self.signed_in(operator)?.create_practice(request).await.map_err(failed)?.into_inner();
        let token = self.join(&created.invitation, admin).await.map_err(failed)?;
        Ok(Practice { id: created.practice_id, admin: created.admin_account_id, token })
    }

    /// A client in the caseload of whoever has this session.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn client(&self, token: &str, email: &str) -> Result<CreateClientResponse, Status> {
        let request = CreateClientRequest {
            email: email.to_owned(),
            name: "Clara Nord".to_owned(),
            practitioner_id: String::new(),
            region_chosen_by_client: true,
        };
        let mut identity = self.signed_in(token).map_err(|error| Status::internal(error.to_string()))?;
        Ok(identity.create_client(request).await?.into_inner())
    }
}

fn identity(
    store: Store,
    keyring: &Arc<Keyring>,
    signer: &Arc<TestSigner>,
    peers: BTreeMap<RegionId, PublicKey>,
    sessions: &SessionSettings,
) -> Identity {
    Identity::new(Parts {
        store,
        keyring: Arc::clone(keyring),
        signer: signer.clone(),
        destinations: peers.keys().cloned().collect(),
        peers,
        agreement: AGREEMENT.to_owned(),
        sessions: sessions.clone(),
    })
}

fn region(name: &str) -> Result<RegionId, Failed> {
    RegionId::new(name).map_err(|error| Failed::Command(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(status: Status) -> Failed {
    Failed::Command(status.message().to_owned())
}
