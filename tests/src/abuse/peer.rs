//! Being a peer: calls with a region's, the coordinator's own certificate, past that process.

use std::sync::Arc;

use domicile_config::{CoordinatorSettings, PeersListener, RegionSettings, SpiffeId};
use domicile_evidence::entry::Entry;
use domicile_proto::audit::v1::ListEntriesRequest;
use domicile_rpc::client::ClientIdentity;
use domicile_rpc::{Channel, Endpoint, Pem, ServerIdentity, TcpNet, connect};
use tokio::time::Instant;

use crate::world::{Outcome, PATIENCE, World, pause};

/// A channel to a region's peers' listener with another region's certificate.
///
/// # Errors
/// When the deployment knows one of them not.
pub fn as_region(world: &World, who: &str, whom: &str) -> Outcome<Channel> {
    let settings = RegionSettings::load(&world.home(who).join("config.toml"))?;
    let peer = settings.peer.iter().find(|peer| peer.region.as_str() == whom).ok_or("no such peer")?;
    channel(&settings.peers, &peer.endpoint, &peer.spiffe)
}

/// The same with the coordinator's certificate.
///
/// # Errors
/// When the deployment knows the region not.
pub fn as_coordinator(world: &World, whom: &str) -> Outcome<Channel> {
    let settings = CoordinatorSettings::load(&world.home("coordinator").join("config.toml"))?;
    let region = settings.region.iter().find(|region| region.region.as_str() == whom);
    let region = region.ok_or("no such region")?;
    channel(&settings.peers, &region.endpoint, &region.spiffe)
}

fn channel(own: &PeersListener, endpoint: &str, spiffe: &SpiffeId) -> Outcome<Channel> {
    let endpoint = Endpoint {
        uri: endpoint.to_owned(),
        server: ServerIdentity::Spiffe(spiffe.clone()),
        authority: Pem::file(&own.authority),
        identity: Some(ClientIdentity { certificate: Pem::file(&own.certificate), key: Pem::file(&own.key) }),
    };
    Ok(connect(endpoint, Arc::new(TcpNet))?)
}

/// The entries of a region's log from an index on, with everything that was recorded before this call.
///
/// # Errors
/// When they do not come in time.
pub async fn log_from(world: &World, region: &str, start: u64) -> Outcome<Vec<Entry>> {
    let auditor = world.auditor(region).await?;
    // Entries stand in the order in which they were recorded: once this look is in the log, everything
    // before it is.
    let request = ListEntriesRequest { start, limit: 1, transfer_id: String::new() };
    let look = auditor.audit().list_entries(request).await?;
    let look =
        look.metadata().get(domicile_rpc::status::REQUEST).ok_or("no request id")?.to_str()?.to_owned();
    let until = Instant::now() + PATIENCE;
    loop {
        let mut found = page(&auditor, start).await?;
        if let Some(at) =
            found.iter().position(|entry| entry.request.is_some_and(|id| id.to_string() == look))
        {
            found.truncate(at);
            return Ok(found);
        }
        if Instant::now() > until {
            return Err("the log does not come that far".into());
        }
        pause().await;
    }
}

/// How many entries a region's log has.
///
/// # Errors
/// What the region answers.
pub async fn log_size(world: &World, region: &str) -> Outcome<u64> {
    Ok(u64::try_from(log_from(world, region, 0).await?.len())?)
}

async fn page(auditor: &domicile_cli::Client, mut start: u64) -> Outcome<Vec<Entry>> {
    let mut found = Vec::new();
    loop {
        let request = ListEntriesRequest { start, limit: 1_000, transfer_id: String::new() };
        let answer = auditor.audit().list_entries(request).await?.into_inner();
        let Some(last) = answer.entries.last() else { return Ok(found) };
        start = last.index + 1;
        for entry in &answer.entries {
            found.push(Entry::decode(&entry.entry)?);
        }
    }
}
