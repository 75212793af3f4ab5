//! The network as an argument, so that tests can put another in its place.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A connection, before TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A bound listener.
#[async_trait]
pub trait Listener: Send {
    /// The next connection, and the address it comes from.
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, IpAddr)>;

    /// Where it listens: with port 0 asked for, the port it got.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// Opens connections and listeners.
#[async_trait]
pub trait Net: Send + Sync + 'static {
    /// Connects to a host's port.
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>>;

    /// Listens at an address.
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;
}

/// The operating system's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

struct Tcp(TcpListener);

#[async_trait]
impl Net for TcpNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(Tcp(TcpListener::bind(address).await?)))
    }
}

#[async_trait]
impl Listener for Tcp {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, IpAddr)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), from.ip()))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
