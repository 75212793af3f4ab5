//! What a deployment chose once and keeps: its regions and their ports.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use domicile_cli::failure::{Failure, Result};
use domicile_rpc::{Listener, Net, TcpNet};
use domicile_types::{Ctx, RegionId};
use serde::{Deserialize, Serialize};

use super::files;
use super::layout::Layout;
use super::policies::Texts;

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
    /// The state of a folder: the one kept there, with the regions that join and ports that are taken
    /// chosen anew, or a first one.
    pub(crate) async fn load(
        layout: &Layout,
        regions: Option<Vec<RegionId>>,
        texts: &Texts,
        ctx: &Ctx,
    ) -> Result<Self> {
        let mut state = match files::read_toml::<Self>(&layout.state())? {
            Some(kept) => kept.grown(regions)?,
            None => Self::first(regions.unwrap_or_else(|| texts.regions()))?,
        };
        state.check(texts)?;
        state.choose_ports(ctx).await?;
        files::replace_toml(&layout.state(), &state)?;
        Ok(state)
    }

    fn first(regions: Vec<RegionId>) -> Result<Self> {
        let regions: BTreeMap<_, _> = regions.into_iter().map(|region| (region, Ports::default())).collect();
        if regions.len() < 2 {
            return Err(Failure::Usage("a deployment has at least two regions".to_owned()));
        }
        Ok(Self { coordinator: 0, regions })
    }

    /// Every region has a policy.
    fn check(&self, texts: &Texts) -> Result<()> {
        let known = texts.regions();
        let Some(unknown) = self.regions.keys().find(|region| !known.contains(region)) else { return Ok(()) };
        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
        Err(Failure::Usage(format!(
            "no policy for {unknown}: {unknown}.toml is missing; there are {}",
            known.join(", ")
        )))
    }

    /// Regions may join. None leaves: it may be the home of records, and others have pinned its keys.
    fn grown(mut self, wanted: Option<Vec<RegionId>>) -> Result<Self> {
        let Some(wanted) = wanted else { return Ok(self) };
        if let Some(left_out) = self.regions.keys().find(|region| !wanted.contains(region)) {
            let kept: Vec<_> = self.regions.keys().map(ToString::to_string).collect();
            return Err(Failure::Usage(format!(
                "{left_out} is left out, and no region leaves: this folder has {}",
                kept.join(", ")
            )));
        }
        for region in wanted {
            self.regions.entry(region).or_default();
        }
        Ok(self)
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

    async fn load(layout: &Layout, wanted: Option<&[&str]>) -> Result<State> {
        let texts = Texts::gather(layout, None).unwrap();
        State::load(layout, wanted.map(regions), &texts, &Ctx::system()).await
    }

    #[tokio::test]
    async fn ports_are_kept_while_they_are_free() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        let first = load(&layout, Some(&["eu", "ca"])).await.unwrap();
        let second = load(&layout, None).await.unwrap();
        assert_eq!(first, second);

        let eu = RegionId::new("eu").unwrap();
        let taken = TcpNet.listen(loopback(first.regions[&eu].people)).await.unwrap();
        let third = load(&layout, None).await.unwrap();
        assert_ne!(third.regions[&eu].people, first.regions[&eu].people);
        assert_eq!(third.regions[&eu].peers, first.regions[&eu].peers);
        drop(taken);
    }

    #[tokio::test]
    async fn regions_join_and_none_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        assert!(load(&layout, Some(&["eu"])).await.is_err());
        let unknown = load(&layout, Some(&["eu", "mars"])).await.unwrap_err();
        assert!(unknown.to_string().contains("mars.toml is missing"), "{unknown}");
        let first = load(&layout, Some(&["eu", "ca"])).await.unwrap();
        let failure = load(&layout, Some(&["eu", "us"])).await.unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let grown = load(&layout, Some(&["eu", "us", "ca"])).await.unwrap();
        assert_eq!(grown.regions.len(), 3);
        assert!(first.regions.iter().all(|(region, ports)| grown.regions[region] == *ports));
        assert_eq!(load(&layout, None).await.unwrap(), grown);
    }
}
