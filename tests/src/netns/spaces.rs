//! Network namespaces on one bridge, and cuts between them: packets are sent and never come, as on a line
//! that is dead, in one direction or in both.

use std::fs::File;
use std::net::Ipv4Addr;

use tokio::process::Command;

use crate::world::Outcome;

/// The bridge.
const BRIDGE: &str = "domicile-br";
/// Whose packets go nowhere.
const NOBODY: &str = "02:00:00:00:00:fe";

/// What a machine must have.
const NEEDS: &str = "network namespaces need Linux, root, and `ip` of iproute2";

/// The namespaces of some processes; they go with this value.
pub struct Spaces {
    processes: Vec<String>,
    /// Locked while they are there: another run on this machine would take them away.
    _alone: File,
}

impl Spaces {
    /// Makes the bridge and one namespace for each process; what an earlier run left is removed.
    ///
    /// # Errors
    /// When this machine does not let us, with what it needs; when another run is at it.
    pub async fn make(processes: &[&str]) -> Outcome<Self> {
        let alone = File::create(std::env::temp_dir().join("domicile-netns.lock"))?;
        alone.try_lock().map_err(|_| "another run has the network namespaces of this machine")?;
        let made =
            Self { processes: processes.iter().map(|name| (*name).to_owned()).collect(), _alone: alone };
        made.remove();
        made.fill().await.map_err(|error| format!("{NEEDS}: {error}"))?;
        Ok(made)
    }

    async fn fill(&self) -> Outcome<()> {
        ip(&format!("link add {BRIDGE} type bridge")).await?;
        ip(&format!("addr add {}/24 dev {BRIDGE}", Self::bridge())).await?;
        ip(&format!("link set {BRIDGE} up")).await?;
        for process in &self.processes {
            self.open(process).await?;
        }
        Ok(())
    }

    /// The address of the bridge: this process's.
    #[must_use]
    pub const fn bridge() -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 7, 1)
    }

    fn number(&self, process: &str) -> Outcome<u8> {
        let at = self.processes.iter().position(|name| name == process).ok_or("no such process")?;
        Ok(u8::try_from(at)? + 2)
    }

    /// A process's address.
    ///
    /// # Errors
    /// When it has no namespace.
    pub fn address(&self, process: &str) -> Outcome<Ipv4Addr> {
        Ok(Ipv4Addr::new(10, 213, 7, self.number(process)?))
    }

    /// The words before a command that runs in a process's namespace.
    #[must_use]
    pub fn inside(process: &str) -> Vec<String> {
        ["ip", "netns", "exec", &space(process)].map(str::to_owned).to_vec()
    }

    /// Makes a process's namespace and connects it.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn open(&self, process: &str) -> Outcome<()> {
        let (space, number, address) = (space(process), self.number(process)?, self.address(process)?);
        let link = link(number);
        ip(&format!("netns add {space}")).await?;
        ip(&format!("link add {link} type veth peer name eth0 netns {space}")).await?;
        // As a machine has it that comes back: the others know it.
        ip(&format!("-n {space} link set eth0 address 02:00:0a:d5:07:{number:02x}")).await?;
        ip(&format!("-n {space} addr add {address}/24 dev eth0")).await?;
        ip(&format!("-n {space} link set lo up")).await?;
        ip(&format!("-n {space} link set eth0 up")).await?;
        ip(&format!("link set {link} master {BRIDGE} up")).await
    }

    /// Takes a process's namespace away, with all its connections: their other ends are told nothing.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn close(&self, process: &str) -> Outcome<()> {
        // The namespace goes when its last process has gone; the line must not be there when the machine is back.
        ip(&format!("link del {}", link(self.number(process)?))).await?;
        ip(&format!("netns del {}", space(process))).await
    }

    /// From now on nothing that one process sends arrives at the other. What the other one sends does.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn cut(&self, from: &str, to: &str) -> Outcome<()> {
        let (space, to) = (space(from), self.address(to)?);
        ip(&format!("-n {space} neigh replace {to} lladdr {NOBODY} dev eth0 nud permanent")).await
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn heal(&self, from: &str, to: &str) -> Outcome<()> {
        let (space, to) = (space(from), self.address(to)?);
        ip(&format!("-n {space} neigh del {to} dev eth0")).await
    }

    fn remove(&self) {
        let run = |arguments: &[&str]| {
            // What was never made is not there.
            drop(std::process::Command::new("ip").args(arguments).output());
        };
        for process in &self.processes {
            // A namespace goes when its last process has gone; its line must not wait for that.
            run(&["link", "del", &self.number(process).map_or_else(|_| String::new(), link)]);
            run(&["netns", "del", &space(process)]);
        }
        run(&["link", "del", BRIDGE]);
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The bridge's end of a process's line.
fn link(number: u8) -> String {
    format!("domicile-v{number}")
}

fn space(process: &str) -> String {
    format!("domicile-{process}")
}

async fn ip(arguments: &str) -> Outcome<()> {
    let run = Command::new("ip").args(arguments.split(' ')).output().await;
    let output = run.map_err(|error| format!("ip cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
