//! A TCP proxy that delays what it carries, carries nothing for a while and loses nothing, or forgets its connections.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_rpc::{Net as _, TcpNet};
use futures::future::join;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::Outcome;

/// Bytes taken from a connection at once.
const PIECE: usize = 16 * 1024;
/// Pieces under way in one direction.
const UNDER_WAY: usize = 256;

/// How the proxies of a network carry, all of them alike. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Weather {
    late_millis: Arc<AtomicU64>,
    still: watch::Sender<bool>,
    /// Cancelled when the connections that are open now are forgotten.
    forgotten: Arc<Mutex<CancellationToken>>,
}

impl Default for Weather {
    fn default() -> Self {
        Self { late_millis: Arc::default(), still: watch::Sender::new(false), forgotten: Arc::default() }
    }
}

impl Weather {
    /// From now on whatever is sent arrives so much later, in either direction.
    pub fn late(&self, by: Duration) {
        self.late_millis.store(by.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Nothing arrives any more, or everything goes on from where it stood.
    pub fn still(&self, still: bool) {
        self.still.send_replace(still);
    }

    /// Connections that are open now carry nothing any more, for ever, and neither end is told; later ones are as
    /// any other. So does a router that has lost its table: each end holds half a connection.
    pub fn forget(&self) {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *forgotten).cancel();
    }

    fn memory(&self) -> CancellationToken {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.late_millis.load(Ordering::Relaxed))
    }

    async fn moving(&self) {
        // The sender is ours: it does not go away.
        self.still.subscribe().wait_for(|still| !still).await.ok();
    }
}

/// Listens at an address, with port 0 at a free one, and carries each connection to another; until dropped,
/// which ends the connections too.
///
/// # Errors
/// When the address is taken.
pub async fn carry(at: SocketAddr, to: SocketAddr, weather: &Weather) -> Outcome<(SocketAddr, DropGuard)> {
    let mut listener = TcpNet.listen(at).await?;
    let (address, over) = (listener.local_address()?, CancellationToken::new());
    let (ends, weather) = (over.clone(), weather.clone());
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Some(Ok((from, _))) = ends.run_until_cancelled(listener.accept()).await {
            let weather = weather.clone();
            open.spawn(async move {
                let Ok(onward) = TcpNet.connect(&to.ip().to_string(), to.port()).await else { return };
                let (from_read, from_write) = tokio::io::split(from);
                let (to_read, to_write) = tokio::io::split(onward);
                let memory = weather.memory();
                let there = one_way(from_read, to_write, &weather);
                let mut both = pin!(join(there, one_way(to_read, from_write, &weather)));
                if memory.run_until_cancelled(both.as_mut()).await.is_none() {
                    // Both sockets stay open.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Ok((address, over.drop_guard()))
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, weather: &Weather) {
    let (out, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let taking = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let bytes = piece.get(..read).unwrap_or_default().to_vec();
            if out.send((Instant::now() + weather.delay(), bytes)).await.is_err() {
                return;
            }
        }
    };
    let giving = async move {
        while let Some((at, bytes)) = queue.recv().await {
            tokio::time::sleep_until(at).await;
            weather.moving().await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // Whoever sent it has said all there was to say; that too does not overtake a stall.
        weather.moving().await;
        to.shutdown().await.ok();
    };
    tokio::join!(taking, giving);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "127.0.0.1:0";
    const LATE: Duration = Duration::from_millis(60);
    const MOMENT: Duration = Duration::from_millis(150);

    type Connection = Box<dyn domicile_rpc::Io>;

    /// A connection through the proxy, both its ends.
    async fn through(weather: &Weather) -> Outcome<(Connection, Connection, DropGuard)> {
        let mut server = TcpNet.listen(HOME.parse()?).await?;
        let (proxy, running) = carry(HOME.parse()?, server.local_address()?, weather).await?;
        let host = proxy.ip().to_string();
        let (here, there) = tokio::join!(TcpNet.connect(&host, proxy.port()), server.accept());
        Ok((here?, there?.0, running))
    }

    async fn heard(from: &mut Connection, length: usize) -> Vec<u8> {
        let mut content = vec![0; length];
        from.read_exact(&mut content).await.unwrap();
        content
    }

    #[tokio::test]
    async fn everything_passes_in_order_and_an_end_is_an_end() {
        let (mut here, mut there, _running) = through(&Weather::default()).await.unwrap();
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let sent = content.clone();
        let sending = async move {
            here.write_all(&sent).await.unwrap();
            here.shutdown().await.unwrap();
            // The other direction is open still.
            assert_eq!(heard(&mut here, 6).await, b"thanks");
        };
        let hearing = async move {
            let mut arrived = Vec::new();
            there.read_to_end(&mut arrived).await.unwrap();
            there.write_all(b"thanks").await.unwrap();
            arrived
        };
        let ((), arrived) = tokio::join!(sending, hearing);
        assert!(arrived == content);
    }

    #[tokio::test]
    async fn what_is_late_is_late_both_ways() {
        let weather = Weather::default();
        let (mut here, mut there, _running) = through(&weather).await.unwrap();
        weather.late(LATE);
        let began = Instant::now();
        here.write_all(b"ask").await.unwrap();
        assert_eq!(heard(&mut there, 3).await, b"ask");
        assert!(began.elapsed() >= LATE);
        there.write_all(b"answer").await.unwrap();
        assert_eq!(heard(&mut here, 6).await, b"answer");
        assert!(began.elapsed() >= 2 * LATE);
    }

    #[tokio::test]
    async fn a_stall_holds_everything_and_loses_nothing() {
        let weather = Weather::default();
        let (mut here, mut there, _running) = through(&weather).await.unwrap();
        weather.still(true);
        here.write_all(b"waits").await.unwrap();
        let early = tokio::time::timeout(MOMENT, heard(&mut there, 1)).await;
        assert!(early.is_err(), "something came through a stall");
        here.write_all(b" longer").await.unwrap();
        weather.still(false);
        assert_eq!(heard(&mut there, 12).await, b"waits longer");
    }

    #[tokio::test]
    async fn who_is_forgotten_is_told_nothing_and_others_pass() {
        let weather = Weather::default();
        let (mut here, mut there, _running) = through(&weather).await.unwrap();
        here.write_all(b"before").await.unwrap();
        assert_eq!(heard(&mut there, 6).await, b"before");
        weather.forget();
        here.write_all(b"after").await.unwrap();
        let silent = tokio::time::timeout(MOMENT, there.read(&mut [0; 8])).await;
        assert!(silent.is_err(), "it was told: {silent:?}");
        drop(there);
        let silent = tokio::time::timeout(MOMENT, here.read(&mut [0; 8])).await;
        assert!(silent.is_err(), "it was told of the other end: {silent:?}");

        let (mut here, mut there, _running) = through(&weather).await.unwrap();
        here.write_all(b"anew").await.unwrap();
        assert_eq!(heard(&mut there, 4).await, b"anew");
    }

    #[tokio::test]
    async fn nobody_there_is_an_end() {
        let free = TcpNet.listen(HOME.parse().unwrap()).await.unwrap().local_address().unwrap();
        let (proxy, running) = carry(HOME.parse().unwrap(), free, &Weather::default()).await.unwrap();
        let mut here = TcpNet.connect(&proxy.ip().to_string(), proxy.port()).await.unwrap();
        assert_eq!(here.read(&mut [0; 8]).await.unwrap_or(0), 0);
        drop(running);
    }
}
