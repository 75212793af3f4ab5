//! Nagle's algorithm, which sqlx 0.9.0 leaves on (transact-rs/sqlx#4335, mended there and not released): the
//! last piece of a statement larger than one TLS record then waits for the server's delayed acknowledgement,
//! 40 ms. sqlx hands out no socket, so the kernel is asked for it: a descriptor of this very process.
//! To be deleted with the first release of sqlx that switches it off itself.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Switches it off on every TCP connection of this process that goes to `port`. Answers on how many.
///
/// # Errors
/// What the kernel refuses: its sandbox may forbid the call, or it may be older than Linux 5.6.
pub(crate) fn off(port: u16) -> Result<u32> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut switched = 0;
    for entry in std::fs::read_dir("/proc/self/fd").map_err(|_| Errno::NOENT)? {
        let Ok(entry) = entry else { continue };
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let (Some(number), true) = (number, target.to_string_lossy().starts_with("socket:")) else {
            continue;
        };
        match pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => switched += u32::from(switch(&socket, port)?),
            // Closed meanwhile.
            Err(Errno::BADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(switched)
}

fn switch(socket: &OwnedFd, port: u16) -> Result<bool> {
    // Sockets that listen or are half open have no peer, and are none of ours.
    let Ok(Some(peer)) = getpeername(socket) else { return Ok(false) };
    let to = std::net::SocketAddr::try_from(peer).map(|peer| peer.port());
    if to != Ok(port) || sockopt::tcp_nodelay(socket)? {
        return Ok(false);
    }
    sockopt::set_tcp_nodelay(socket, true).map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_the_port_alone_are_switched_or_the_refusal_is_told() {
        let servers = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, other] = servers.each_ref().map(|server| server.local_addr().unwrap().port());
        let [one, two] = [port, other].map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap());
        assert!(!one.nodelay().unwrap());
        match off(port) {
            Ok(switched) => {
                assert_eq!(switched, 1);
                assert!(one.nodelay().unwrap());
                assert_eq!(off(port), Ok(0));
            }
            // A sandbox or an old kernel: the caller is told, and nothing has changed (ADR 0019).
            Err(refused) => {
                assert!(matches!(refused, Errno::PERM | Errno::ACCESS | Errno::NOSYS), "{refused}");
                assert!(!one.nodelay().unwrap());
            }
        }
        assert!(!two.nodelay().unwrap());
    }
}
