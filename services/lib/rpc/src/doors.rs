//! Who may connect: so many at a time, so many from one address, and none that asks nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domicile_config::Limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// How often one cause of closed connections is told in the log, with how many there were.
const TELL: Duration = Duration::from_secs(10);

/// Why a connection was closed before, or without, a request. Nobody is known then, so none of these is
/// worth an audit entry; each is counted in the application log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// As many connections as allowed were open.
    TooMany,
    /// As many connections of this address as allowed were open.
    TooManyOfAddress,
    /// The handshake did not end in time.
    HandshakeSlow,
    /// What came was no TLS 1.3 handshake.
    HandshakeWrong,
    /// No request was made for too long.
    Idle,
    /// A ping was not answered.
    Silent,
    /// The caller broke the rules of HTTP/2: too many resets, headers without end, garbage.
    Protocol,
}

impl Closed {
    const ALL: [Self; 7] = [
        Self::TooMany,
        Self::TooManyOfAddress,
        Self::HandshakeSlow,
        Self::HandshakeWrong,
        Self::Idle,
        Self::Silent,
        Self::Protocol,
    ];

    /// As the log names it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too many connections",
            Self::TooManyOfAddress => "too many connections of one address",
            Self::HandshakeSlow => "handshake took too long",
            Self::HandshakeWrong => "no TLS 1.3 handshake",
            Self::Idle => "no request",
            Self::Silent => "no answer to a ping",
            Self::Protocol => "HTTP/2 rules broken",
        }
    }
}

/// The doors of one listener.
pub(crate) struct Doors {
    free: Arc<Semaphore>,
    per_address: usize,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    tellings: Mutex<[Telling; Closed::ALL.len()]>,
}

#[derive(Clone, Copy, Default)]
struct Telling {
    count: u64,
    last: Option<Instant>,
}

/// A connection's place; free again when dropped.
pub(crate) struct Pass {
    network: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Doors {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.connections)),
            per_address: limits.connections_per_address,
            addresses: Arc::default(),
            tellings: Mutex::default(),
        }
    }

    /// A place for a connection from this address.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Pass, Closed> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| Closed::TooMany)?;
        let network = network(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let open = addresses.entry(network).or_default();
        if *open >= self.per_address {
            return Err(Closed::TooManyOfAddress);
        }
        *open += 1;
        Ok(Pass { network, addresses: Arc::clone(&self.addresses), _permit: permit })
    }

    /// Counts a closed connection; the log is told of the first and then from time to time, so that a
    /// flood of connections is no flood of lines.
    pub(crate) fn closed(&self, why: Closed) {
        let mut tellings = self.tellings.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(telling) = tellings.get_mut(why as usize) else { return };
        telling.count += 1;
        if telling.last.is_none_or(|last| last.elapsed() >= TELL) {
            tracing::warn!(why = why.as_str(), count = telling.count, "connections were closed");
            *telling = Telling { count: 0, last: Some(Instant::now()) };
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = addresses.get_mut(&self.network) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.network);
            }
        }
    }
}

/// One client's addresses: a single IPv4 address, or the 2^64 of an IPv6 network that one line gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// What happens on one connection: how many requests run, and when the last one ended.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<(usize, Instant)>>);

/// A request under way, until its answer has gone out whole.
pub(crate) struct Busy(Activity);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new((0, Instant::now()))))
    }

    pub(crate) fn begin(&self) -> Busy {
        self.change(|running| running + 1);
        Busy(self.clone())
    }

    fn change(&self, to: impl Fn(usize) -> usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (to(state.0), Instant::now());
    }

    /// Comes back once nothing has run for this long.
    pub(crate) async fn idle(&self, longest: Duration) {
        loop {
            let (running, last) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let end = if running > 0 { Instant::now() } else { last } + longest;
            if running == 0 && end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|running| running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others() {
        let doors = Doors::new(&Limits { connections: 4, connections_per_address: 2, ..Limits::default() });
        let enter = |address: &str| doors.enter(address.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").err(), Some(Closed::TooManyOfAddress));
        let _other = enter("2001:db8::1").unwrap();
        let _neighbour = enter("2001:db8::ffff:1").unwrap();
        assert_eq!(enter("2001:db8:0:1::1").err(), Some(Closed::TooMany));
        drop(first);
        assert_eq!(enter("2001:db8::2").err(), Some(Closed::TooManyOfAddress));
        let _again = enter("192.0.2.1").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_once_nothing_runs() {
        let (activity, longest) = (Activity::new(), Duration::from_secs(10));
        let start = Instant::now();
        let busy = activity.begin();
        let ended = tokio::spawn({
            let activity = activity.clone();
            async move { activity.idle(longest).await }
        });
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert!(!ended.is_finished(), "a long request is no idle time");
        drop(busy);
        ended.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(35));
    }

    #[test]
    fn every_cause_has_its_place() {
        for (at, why) in Closed::ALL.into_iter().enumerate() {
            assert_eq!((why as usize, why.as_str().is_empty()), (at, false));
        }
    }
}
