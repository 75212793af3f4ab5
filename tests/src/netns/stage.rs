//! The deployment of the kill matrix, each process in a namespace of its own or, where there are only proxies,
//! in none.

use std::net::{Ipv4Addr, SocketAddr};

use domicile_store::Backend;
use tokio_util::sync::DropGuard;

use super::line::{Weather, carry};
use super::spaces::Spaces;
use crate::kill::arena::{Arena, REGIONS};
use crate::world::Outcome;

/// The processes.
pub const PROCESSES: [&str; 3] = [REGIONS[0], REGIONS[1], "coordinator"];

/// How processes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// One namespace's packets go to the other's.
    Direct,
    /// Through a proxy for each line.
    Proxied,
}

/// A deployment whose lines are in our hands. People reach every region at any time.
pub struct Stage {
    /// The deployment and its record.
    pub arena: Arena,
    /// How the proxied lines carry.
    pub weather: Weather,
    spaces: Option<Spaces>,
    lines: Lines,
    /// The addresses of the peers' listeners.
    peers: Vec<(String, SocketAddr)>,
    /// The regions' doors for people, and the proxies between processes.
    doors: Vec<DropGuard>,
    between: Vec<DropGuard>,
}

impl Stage {
    /// Makes the deployment and moves its processes into namespaces.
    ///
    /// # Errors
    /// When this machine does not let us, or a part does not start.
    pub async fn build() -> Outcome<Self> {
        Self::build_in(Some(Spaces::make(&PROCESSES).await?)).await
    }

    /// Makes the deployment without namespaces: its lines are proxied and cannot be cut. Any machine lets us.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn build_proxied() -> Outcome<Self> {
        Self::build_in(None).await
    }

    async fn build_in(spaces: Option<Spaces>) -> Outcome<Self> {
        let lines = if spaces.is_some() { Lines::Direct } else { Lines::Proxied };
        // With the numbers of a deployment that nobody tuned.
        let arena = Arena::start_with(Backend::Sqlite, "").await?;
        let weather = Weather::default();
        let (peers, doors, between) = (Vec::new(), Vec::new(), Vec::new());
        let mut stage = Self { arena, weather, spaces, lines, peers, doors, between };
        stage.stop().await?;
        for process in PROCESSES {
            stage.enter(process).await?;
        }
        stage.connect(lines).await?;
        stage.begin().await?;
        Ok(stage)
    }

    async fn stop(&mut self) -> Outcome<()> {
        for process in PROCESSES {
            self.arena.world.stop(process).await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Outcome<()> {
        for process in PROCESSES {
            self.arena.world.begin(process)?;
        }
        for region in REGIONS {
            self.arena.world.serving(region).await?;
        }
        Ok(())
    }

    /// Lets the processes reach each other in this way; they are started anew when it is another one.
    ///
    /// # Errors
    /// When one does not come back; without namespaces there are no direct lines.
    pub async fn through(&mut self, lines: Lines) -> Outcome<()> {
        if self.lines == lines {
            return Ok(());
        }
        self.spaces()?;
        self.stop().await?;
        self.connect(lines).await?;
        self.begin().await
    }

    /// The namespaces.
    ///
    /// # Errors
    /// When the stage was made without.
    pub fn spaces(&self) -> Outcome<&Spaces> {
        Ok(self.spaces.as_ref().ok_or("there are no namespaces here")?)
    }

    fn settings(&self, process: &str) -> Outcome<toml::Table> {
        Ok(std::fs::read_to_string(self.arena.world.home(process).join("config.toml"))?.parse()?)
    }

    fn settle(&self, process: &str, settings: &toml::Table) -> Outcome<()> {
        Ok(std::fs::write(self.arena.world.home(process).join("config.toml"), toml::to_string(settings)?)?)
    }

    /// Moves a process's listeners into its namespace, if it has one; its people find it where it was.
    async fn enter(&mut self, process: &str) -> Outcome<()> {
        let mut settings = self.settings(process)?;
        for listener in ["people", "peers"] {
            let Some(table) = settings.get_mut(listener).and_then(toml::Value::as_table_mut) else {
                continue;
            };
            let old = table.get("listen").and_then(toml::Value::as_str).ok_or("no address")?;
            let old: SocketAddr = old.parse()?;
            let mut new = old;
            if let Some(spaces) = &self.spaces {
                new = SocketAddr::from((spaces.address(process)?, old.port()));
                table.insert("listen".to_owned(), new.to_string().into());
            }
            match listener {
                "people" if new != old => self.doors.push(carry(old, new, &Weather::default()).await?.1),
                "peers" => self.peers.push((process.to_owned(), new)),
                _ => {}
            }
        }
        if self.spaces.is_some() {
            self.arena.world.within(process, &Spaces::inside(process));
        }
        self.settle(process, &settings)
    }

    /// Writes into every process's settings where the others are.
    async fn connect(&mut self, lines: Lines) -> Outcome<()> {
        self.between.clear();
        self.lines = lines;
        let proxies = if self.spaces.is_some() { Spaces::bridge() } else { Ipv4Addr::LOCALHOST };
        for process in PROCESSES {
            let mut settings = self.settings(process)?;
            for others in ["peer", "region"] {
                let list = settings.get_mut(others).and_then(toml::Value::as_array_mut);
                for other in list.into_iter().flatten() {
                    let table = other.as_table_mut().ok_or("no table")?;
                    let name = table.get("region").and_then(toml::Value::as_str).ok_or("no name")?;
                    let known = self.peers.iter().find(|(process, _)| process == name);
                    let mut to = known.ok_or("no such process")?.1;
                    if lines == Lines::Proxied {
                        let at = SocketAddr::from((proxies, 0));
                        let (address, running) = carry(at, to, &self.weather).await?;
                        self.between.push(running);
                        to = address;
                    }
                    table.insert("endpoint".to_owned(), format!("https://{to}").into());
                }
            }
            self.settle(process, &settings)?;
        }
        Ok(())
    }

    /// From now on nothing that the first of a pair sends arrives at the second.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn cut(&self, pairs: &[(&str, &str)]) -> Outcome<()> {
        for (from, to) in pairs {
            self.spaces()?.cut(from, to).await?;
        }
        Ok(())
    }

    /// Ends cuts.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn heal(&self, pairs: &[(&str, &str)]) -> Outcome<()> {
        for (from, to) in pairs {
            self.spaces()?.heal(from, to).await?;
        }
        Ok(())
    }
}

/// Both directions between a process and some others.
#[must_use]
pub fn both_ways<'a>(one: &'a str, others: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    others.iter().flat_map(|other| [(one, *other), (*other, one)]).collect()
}
