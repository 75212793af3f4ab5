//! Puts a region together: what every service of it stands on.

mod observe;
mod ports;
mod pseudonyms;
pub(crate) mod region;
mod replica;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use domicile_cli::failure::Result;
use domicile_config::policy::Policies;
use domicile_config::region::{ObjectSettings, PeerSettings};
use domicile_config::{Environment, RegionSettings};
use domicile_evidence::keys::{PublicKey, VerifierKey};
use domicile_evidence::policy::LogKeys;
use domicile_identity::Identity;
use domicile_kms::Keyring;
use domicile_objects::{Directory, ObjectStore, S3};
use domicile_store::transfers::{Options, SqlTransfers};
use domicile_store::{Backups, KeyStore, Pseudonyms, Store};
use domicile_types::{Code, Ctx, Error, RegionId};

use crate::signing::{self, SigningKeys};
use pseudonyms::RegionPseudonyms;

/// The version of the policy's form, written into every audit entry.
pub(crate) const POLICY_VERSION: u32 = 1;

/// What every service of a region stands on: settings read whole, databases open, keys at hand.
pub(crate) struct Foundation {
    pub(crate) settings: RegionSettings,
    pub(crate) policies: Arc<Policies>,
    pub(crate) ctx: Ctx,
    pub(crate) signing: SigningKeys,
    pub(crate) key_store: Arc<KeyStore>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) pseudonyms: Arc<dyn Pseudonyms>,
    pub(crate) store: Store,
    pub(crate) database: domicile_store::Settings,
    pub(crate) peers: BTreeMap<RegionId, LogKeys>,
}

impl Foundation {
    /// Opens everything; refuses what is not as it must be before anything is served.
    pub(crate) async fn open(settings: RegionSettings, ctx: Ctx) -> Result<Self> {
        let policies = Arc::new(policies(&settings)?);
        let peers = pinned(&settings.peer)?;
        let service = signing::key_service(&settings.keys, &ctx).await?;
        let (region, domain) = (&settings.region, &settings.peers.trust_domain);
        let signing = SigningKeys::open(region, domain, &settings.signing, service.as_ref(), &ctx).await?;
        let database = database(&settings)?;
        let key_store = Arc::new(KeyStore::open(&database, ctx.clone()).await?);
        let keyring = Arc::new(Keyring::new(
            service,
            Arc::clone(&key_store) as _,
            settings.region.clone(),
            ctx.clone(),
        ));
        let pseudonyms: Arc<dyn Pseudonyms> =
            Arc::new(RegionPseudonyms { keyring: Arc::clone(&keyring), region: settings.region.clone() });
        let store = Store::open(&database, ctx.clone(), Arc::clone(&pseudonyms)).await?;
        Ok(Self { settings, policies, ctx, signing, key_store, keyring, pseudonyms, store, database, peers })
    }

    /// The identity service.
    pub(crate) fn identity(&self) -> Result<Identity> {
        let policy = self.policies.get(&self.settings.region)?;
        let known = |to: &&RegionId| self.peers.contains_key(*to);
        let destinations: BTreeSet<_> =
            policy.outbound.iter().map(|outbound| &outbound.to).filter(known).cloned().collect();
        let statement_keys = |(region, keys): (&RegionId, &LogKeys)| (region.clone(), *keys.statement.key());
        let peers: BTreeMap<RegionId, PublicKey> = self.peers.iter().map(statement_keys).collect();
        Ok(Identity::new(domicile_identity::Parts {
            store: self.store.clone(),
            keyring: Arc::clone(&self.keyring),
            signer: Arc::clone(&self.signing.statement) as _,
            peers,
            agreement: policy.agreement.version.clone(),
            destinations,
            sessions: self.settings.sessions.clone(),
        }))
    }

    /// The object store.
    pub(crate) async fn objects(&self) -> Result<Arc<dyn ObjectStore>> {
        let store: Arc<dyn ObjectStore> = match &self.settings.objects {
            ObjectSettings::Directory { path } => Arc::new(Directory::open(path, &self.ctx).await?),
            ObjectSettings::S3(s3) => Arc::new(S3::open(s3, &self.ctx).await?),
        };
        Ok(Arc::new(domicile_objects::Measured(store)))
    }

    /// The region's transfers on its database.
    pub(crate) fn transfers(&self) -> SqlTransfers {
        let numbers = &self.settings.transfer;
        let options = Options {
            offer_open: numbers.offer_open,
            lease: numbers.lease,
            stuck_after: numbers.stuck_after,
            locator: numbers.forwarding_locator,
        };
        let backups = self.settings.database.backup_directory.clone();
        let backups = Backups::new(&self.store, &self.key_store, &self.database, backups);
        SqlTransfers::new(self.store.clone(), Arc::clone(&self.signing.statement) as _, options, backups)
    }

    /// Closes the databases, once nothing uses them any more.
    pub(crate) async fn close(self) -> Result<()> {
        self.store.close().await?;
        if let Ok(keys) = Arc::try_unwrap(self.key_store) {
            keys.close().await?;
        }
        Ok(())
    }
}

/// The regions' policies: this region's own and that of every peer must be there.
pub(crate) fn policies(settings: &RegionSettings) -> Result<Policies> {
    let policies = Policies::load(&settings.policies)?;
    policies.get(&settings.region)?;
    for peer in &settings.peer {
        policies.get(&peer.region)?;
    }
    Ok(policies)
}

fn database(settings: &RegionSettings) -> Result<domicile_store::Settings> {
    let database = &settings.database;
    let sequencer = database.sequencer_url.as_ref().map(domicile_config::Secret::reveal).transpose()?;
    Ok(domicile_store::Settings {
        region: settings.region.clone(),
        url: database.url.reveal()?.to_string(),
        sequencer_url: sequencer.map(|url| url.to_string()),
        keys_url: database.keys_url.reveal()?.to_string(),
        max_connections: database.max_connections,
        acquire: database.acquire,
        production: settings.environment == Environment::Production,
        log_origin: signing::log_origin(&settings.peers.trust_domain, &settings.region),
        policy_version: POLICY_VERSION,
    })
}

/// The peers' keys as the settings pin them.
pub(crate) fn pinned(peers: &[PeerSettings]) -> Result<BTreeMap<RegionId, LogKeys>> {
    let key = |text: &str, place: &'static str| {
        VerifierKey::parse(text)
            .map_err(|cause| Error::new(Code::ConfigurationInvalid).at(place).because(cause))
    };
    let mut pinned = BTreeMap::new();
    for peer in peers {
        let checkpoint = key(&peer.checkpoint_key, "peer.checkpoint_key")?;
        let statement = key(&peer.statement_key, "peer.statement_key")?;
        pinned.insert(peer.region.clone(), LogKeys { checkpoint, statement });
    }
    Ok(pinned)
}
