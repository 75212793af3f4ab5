//! The settings files of a deployment's processes, written anew at each start: they follow from the
//! folder, the ports and the keys.

use std::collections::BTreeMap;
use std::path::Path;

use domicile_cli::failure::{Failure, Result};
use domicile_cli::place::{ClientFile, RegionPlace};
use domicile_config::SpiffeId;
use domicile_config::region::{KeySettings, SigningSettings};
use domicile_evidence::policy::{LogKeys, Policy};
use domicile_types::RegionId;
use serde_json::{Value, json};

use super::certificates::TRUST_DOMAIN;
use super::files;
use super::layout::Layout;
use super::state::{State, loopback};

/// The public keys of every region.
pub(crate) type PublicKeys = BTreeMap<RegionId, LogKeys>;

/// The SPIFFE ID of a region of the deployment.
pub(crate) fn region_id(region: &RegionId) -> Result<SpiffeId> {
    SpiffeId::region(TRUST_DOMAIN, region).ok_or_else(|| Failure::Usage(format!("no name for {region}")))
}

/// The SPIFFE ID of the coordinator.
pub(crate) fn coordinator_id() -> Result<SpiffeId> {
    SpiffeId::coordinator(TRUST_DOMAIN)
        .ok_or_else(|| Failure::Usage("no name for the coordinator".to_owned()))
}

/// Where a region's key service is, and where its signing keys lie.
pub(crate) fn keys(layout: &Layout, region: &RegionId) -> Result<(KeySettings, SigningSettings)> {
    let home = layout.region(region);
    let signing = SigningSettings {
        statement_key: home.join("statement.key"),
        checkpoint_key: home.join("checkpoint.key"),
    };
    let service = match files::read_toml(&layout.keys(region))? {
        Some(service) => service,
        None => KeySettings::Local { file: home.join("kms.json") },
    };
    Ok((service, signing))
}

/// The SPIFFE ID of `up` itself, which asks the coordinator whether it serves.
pub(crate) fn operator_id() -> Result<SpiffeId> {
    SpiffeId::operator(TRUST_DOMAIN, "up")
        .ok_or_else(|| Failure::Usage("no name for the operator".to_owned()))
}

/// One region's settings, with these numbers of transfers instead of the defaults. A `database.toml`,
/// `keys.toml` or `objects.toml` in the region's folder stands in the place of the SQLite files, the key
/// file or the folder of objects.
pub(crate) fn region(
    layout: &Layout,
    state: &State,
    region: &RegionId,
    keys: &PublicKeys,
    transfer: &toml::Table,
) -> Result<()> {
    let home = layout.region(region);
    let ports = state.regions.get(region).copied().unwrap_or_default();
    let database = |name: &str| sqlite_url(&home.join(name));
    let value = json!({
        "environment": "development",
        "region": region,
        "policies": layout.policies(),
        "operator": operator(),
        "people": {
            "listen": loopback(ports.people).to_string(),
            "certificate": "people.pem",
            "key": "people.key",
        },
        "peers": peers_listener(layout, ports.peers),
        "database": {
            "url": database("data.db"),
            "keys_url": database("keys.db"),
            "backup_directory": home.join("backups"),
        },
        "keys": { "provider": "local", "file": "kms.json" },
        "objects": { "provider": "directory", "path": home.join("objects") },
        "signing": { "statement_key": "statement.key", "checkpoint_key": "checkpoint.key" },
        "coordinator": { "spiffe": coordinator_id()?.as_str() },
        "peer": peers(state, region, keys)?,
    });
    let mut value = toml::Table::try_from(&value).map_err(|_| Failure::local("settings", "Report this."))?;
    let places = [
        ("database", layout.database(region)),
        ("keys", layout.keys(region)),
        ("objects", layout.objects(region)),
    ];
    for (section, file) in places {
        if let Some(table) = files::read_toml::<toml::Table>(&file)? {
            value.insert(section.to_owned(), toml::Value::Table(table));
        }
    }
    if !transfer.is_empty() {
        value.insert("transfer".to_owned(), toml::Value::Table(transfer.clone()));
    }
    files::replace_toml(&home.config(), &value)
}

fn peers(state: &State, of: &RegionId, keys: &PublicKeys) -> Result<Value> {
    let others = state.regions.iter().filter(|(region, _)| *region != of);
    others
        .map(|(region, ports)| {
            let public = keys.get(region).ok_or_else(|| Failure::Usage(format!("no keys of {region}")))?;
            Ok(json!({
                "region": region,
                "endpoint": endpoint(ports.peers),
                "spiffe": region_id(region)?.as_str(),
                "statement_key": public.statement.to_string(),
                "checkpoint_key": public.checkpoint.to_string(),
            }))
        })
        .collect()
}

/// The coordinator's settings.
pub(crate) fn coordinator(layout: &Layout, state: &State) -> Result<()> {
    let regions: Result<Value> = state
        .regions
        .iter()
        .map(|(region, ports)| {
            let spiffe = region_id(region)?;
            Ok(json!({ "region": region, "endpoint": endpoint(ports.peers), "spiffe": spiffe.as_str() }))
        })
        .collect();
    let value = json!({
        "environment": "development",
        "operator": operator(),
        "peers": peers_listener(layout, state.coordinator),
        "region": regions?,
        "operators": [operator_id()?.as_str()],
    });
    files::replace_toml(&layout.coordinator().config(), &value)
}

/// How people reach the regions, and what an auditor pins.
pub(crate) fn public_files(layout: &Layout, state: &State, keys: PublicKeys) -> Result<()> {
    let place = |port| RegionPlace { endpoint: endpoint(port), ca: "ca.pem".into() };
    let regions = state.regions.iter().map(|(region, ports)| (region.to_string(), place(ports.people)));
    files::replace_toml(&layout.client_file(), &ClientFile { regions: regions.collect() })?;
    let policy = Policy { logs: keys, quorum: 0, max_age_hours: None, settle_hours: None };
    files::replace(&layout.audit_policy(), policy.to_json().as_bytes())
}

fn operator() -> Value {
    json!({ "name": "Domicile on this machine", "contact": "whoever started `domicile up`" })
}

fn peers_listener(layout: &Layout, port: u16) -> Value {
    json!({
        "listen": loopback(port).to_string(),
        "certificate": "peer.pem",
        "key": "peer.key",
        "authority": layout.authority(),
        "trust_domain": TRUST_DOMAIN,
    })
}

/// `https://127.0.0.1:port`.
pub(crate) fn endpoint(port: u16) -> String {
    format!("https://{}", loopback(port))
}

fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}
