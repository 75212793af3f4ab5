//! The network of the simulation behind the product's own seam: turmoil's TCP, through which the real TLS,
//! HTTP/2 and gRPC go.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use domicile_rpc::Net;
use domicile_rpc::net::{Io, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::process::Process;

/// The network as one process sees it. A process that has died sends and hears nothing more.
pub(super) struct SimNet(pub(super) Arc<Process>);

struct Bound {
    listener: TcpListener,
    process: Arc<Process>,
}

/// A connection of a process.
pub(super) struct Wire {
    stream: TcpStream,
    process: Arc<Process>,
}

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
        self.0.alive().await;
        let stream = TcpStream::connect((host, port)).await?;
        Ok(Box::new(Wire { stream, process: Arc::clone(&self.0) }))
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let listener = TcpListener::bind(address).await?;
        Ok(Box::new(Bound { listener, process: Arc::clone(&self.0) }))
    }
}

#[async_trait]
impl Listener for Bound {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, IpAddr)> {
        let (stream, from) = self.listener.accept().await?;
        self.process.alive().await;
        Ok((Box::new(Wire { stream, process: Arc::clone(&self.process) }), from.ip()))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.process.is_dead() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.process.is_dead() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
