//! `--check`: settings, policies and certificates are read and checked as at a start; nothing is bound,
//! no database or key service is opened.

use domicile_cli::failure::Result;
use domicile_cli::{App, text};
use domicile_config::{CoordinatorSettings, RegionSettings};
use domicile_rpc::ServerTls;
use domicile_types::RegionId;
use serde_json::json;

use crate::compose;

/// What a region would do.
pub(crate) fn region(app: &App, settings: &RegionSettings) -> Result<()> {
    let policies = compose::policies(settings)?;
    compose::pinned(&settings.peer)?;
    ServerTls::people(&settings.people)?;
    ServerTls::peers(&settings.peers)?;
    let own = &settings.region;
    let peers: Vec<&RegionId> = settings.peer.iter().map(|peer| &peer.region).collect();
    let sends: Vec<_> = peers.iter().filter(|to| policies.allowed(own, to).is_some()).collect();
    let receives: Vec<_> = peers.iter().filter(|from| policies.allowed(from, own).is_some()).collect();
    let (people, peers_listen) = (settings.people.listen.to_string(), settings.peers.listen.to_string());
    app.out.answer(
        || {
            json!({
                "region": own,
                "people": people,
                "peers": peers_listen,
                "knows": peers,
                "sends_to": sends,
                "receives_from": receives,
            })
        },
        || {
            text::fields(&[
                ("region", own.to_string()),
                ("listens for people", people.clone()),
                ("listens for peers", peers_listen.clone()),
                ("knows", listed(&peers)),
                ("may send to", listed(&sends)),
                ("may receive from", listed(&receives)),
            ])
        },
    )
}

/// What the coordinator would do.
pub(crate) fn coordinator(app: &App, settings: &CoordinatorSettings) -> Result<()> {
    ServerTls::peers(&settings.peers)?;
    let regions: Vec<&RegionId> = settings.region.iter().map(|region| &region.region).collect();
    let listen = settings.peers.listen.to_string();
    app.out.answer(
        || json!({ "peers": listen, "drives": regions }),
        || text::fields(&[("listens for peers", listen.clone()), ("drives", listed(&regions))]),
    )
}

fn listed<T: ToString>(regions: &[T]) -> String {
    let names: Vec<_> = regions.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
