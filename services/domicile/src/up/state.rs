//! What a deployment chose once and keeps: its regions and their ports.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use domicile_cli::failure::{Failure, Result};
use domicile_rpc::{Listener, Net, TcpNet};
use domicile_types::{Ctx, RegionId};
use serde::{Deserialize, Serialize};

use super::files;
use super::layout::Layout;
use super::policies;

/// Where ports are looked for: below those of outgoing connections (Linux: 32768 to 60999).
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried for one listener.
const TRIES: u32 = 200;

/// Two ports of loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ports {
    /// The listener for people.
    pub(crate) people: u16,
    /// The listener for peers.
    pub(crate) peers: u16,
}

/// `deployment.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The coordinator's listener.
    pub(crate) coordinator: u16,
    /// The regions.
    pub(crate) regions: BTreeMap<RegionId, Ports>,
}

impl State {
    /// The state of a folder: the one kept there, with ports that are taken chosen anew, or a first one.
    pub(crate) async fn load(layout: &Layout, regions: Option<Vec<RegionId>>, ctx: &Ctx) -> Result<Self> {
        let mut state = match files::read_toml::<Self>(&layout.state())? {
            Some(kept) => kept.check(regions)?,
            None => Self::first(regions.unwrap_or_else(policies::regions))?,
        };
        state.choose_ports(ctx).await?;
        files::replace_toml(&layout.state(), &state)?;
        Ok(state)
    }

    fn first(regions: Vec<RegionId>) -> Result<Self> {
        let regions: BTreeMap<_, _> = regions.into_iter().map(|region| (region, Ports::default())).collect();
        if regions.len() < 2 {
            return Err(Failure::Usage("a deployment has at least two regions".to_owned()));
        }
        if let Some(unknown) = regions.keys().find(|region| policies::text(region).is_none()) {
            let known: Vec<_> = policies::regions().iter().map(ToString::to_string).collect();
            return Err(Failure::Usage(format!("no policy for {unknown}; there are {}", known.join(", "))));
        }
        Ok(Self { coordinator: 0, regions })
    }

    /// Keys are pinned and accounts made: the regions of a folder stay what they were.
    fn check(self, wanted: Option<Vec<RegionId>>) -> Result<Self> {
        let same = wanted.is_none_or(|wanted| {
            wanted.len() == self.regions.len()
                && wanted.iter().all(|region| self.regions.contains_key(region))
        });
        if same {
            return Ok(self);
        }
        let kept: Vec<_> = self.regions.keys().map(ToString::to_string).collect();
        Err(Failure::Usage(format!(
            "this folder has the regions {}; use another for others",
            kept.join(", ")
        )))
    }

    /// Keeps every port that is free and takes fresh ones for the rest. All are held until all are
    /// known, so that none is given twice.
    async fn choose_ports(&mut self, ctx: &Ctx) -> Result<()> {
        let mut held = Vec::new();
        let ports = self.regions.values_mut().flat_map(|ports| [&mut ports.people, &mut ports.peers]);
        for port in ports.chain([&mut self.coordinator]) {
            held.push(hold(port, ctx).await?);
        }
        Ok(())
    }
}

/// Holds the port, or another that is free and is put in its place. Never one of those the operating
/// system gives to outgoing connections: such a port may be taken before its process listens.
async fn hold(port: &mut u16, ctx: &Ctx) -> Result<Box<dyn Listener>> {
    let mut last = None;
    for _ in 0..TRIES {
        if *port != 0 {
            match TcpNet.listen(loopback(*port)).await {
                Ok(listener) => return Ok(listener),
                Err(cause) => last = Some(cause.kind()),
            }
        }
        *port = PORTS.start + u16::from_be_bytes(ctx.random()) % (PORTS.end - PORTS.start);
    }
    let why = last.map(|kind| kind.to_string()).unwrap_or_default();
    Err(Failure::local(
        format!("no free port on this machine: {why}"),
        "Check that the loopback interface is up.",
    ))
}

/// An address on this machine alone.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(names: &[&str]) -> Vec<RegionId> {
        names.iter().map(|name| RegionId::new(name).unwrap()).collect()
    }

    #[tokio::test]
    async fn ports_are_kept_while_they_are_free() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        let first = State::load(&layout, Some(regions(&["eu", "ca"])), &Ctx::system()).await.unwrap();
        let second = State::load(&layout, None, &Ctx::system()).await.unwrap();
        assert_eq!(first, second);

        let eu = RegionId::new("eu").unwrap();
        let taken = TcpNet.listen(loopback(first.regions[&eu].people)).await.unwrap();
        let third = State::load(&layout, None, &Ctx::system()).await.unwrap();
        assert_ne!(third.regions[&eu].people, first.regions[&eu].people);
        assert_eq!(third.regions[&eu].peers, first.regions[&eu].peers);
        drop(taken);
    }

    #[tokio::test]
    async fn the_regions_of_a_folder_stay() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        assert!(State::load(&layout, Some(regions(&["eu"])), &Ctx::system()).await.is_err());
        assert!(State::load(&layout, Some(regions(&["eu", "mars"])), &Ctx::system()).await.is_err());
        State::load(&layout, Some(regions(&["eu", "ca"])), &Ctx::system()).await.unwrap();
        let failure = State::load(&layout, Some(regions(&["eu", "us"])), &Ctx::system()).await.unwrap_err();
        assert_eq!(failure.exit_code(), 2);
    }
}
