//! A people's listener in this process: services behind the real guard and real TLS on a free port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use domicile_config::{Limits, PeopleListener};
use domicile_rpc::{
    AuditSink, Channel, Endpoint, Net as _, Pem, Server, ServerIdentity, ServerTls, Sessions, TcpNet, connect,
};
use domicile_store::{AuditFacts, Store};
use domicile_types::{AuditScope, Code, Result};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::postgres::Failed;

/// A listener; it closes when dropped.
pub struct People {
    /// To the listener, without a session.
    pub channel: Channel,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate it shows and clients trust, PEM.
    pub authority: String,
    _files: tempfile::TempDir,
    _running: DropGuard,
}

impl People {
    /// A server without services, to which a test adds those it needs.
    #[must_use]
    pub fn server(store: &Store, sessions: Arc<dyn Sessions>) -> Server {
        Self::bounded(store, sessions, Limits::default())
    }

    /// The same within these limits.
    #[must_use]
    pub fn bounded(store: &Store, sessions: Arc<dyn Sessions>, limits: Limits) -> Server {
        let sink = Arc::new(OutboxSink(store.clone()));
        Server::people(store.ctx().clone(), limits, sessions, sink)
    }

    /// Serves on a free loopback port.
    ///
    /// # Errors
    /// When the certificate cannot be made or the port not be had.
    pub async fn serve(server: Server) -> Result<Self, Failed> {
        let files = tempfile::tempdir().map_err(|error| Failed::Io("no temporary folder", error))?;
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(|error| Failed::Command(error.to_string()))?;
        let pem = certificate.cert.pem();
        let settings = PeopleListener {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate: files.path().join("people.pem"),
            key: files.path().join("people.key"),
        };
        let write = |path, content: String| {
            std::fs::write(path, content).map_err(|error| Failed::Io("no certificate", error))
        };
        write(&settings.certificate, pem.clone())?;
        write(&settings.key, certificate.signing_key.serialize_pem())?;
        let listener = TcpNet.listen(settings.listen).await.map_err(|error| Failed::Io("no port", error))?;
        let address = listener.local_address().map_err(|error| Failed::Io("no port", error))?;
        let shutdown = CancellationToken::new();
        tokio::spawn(server.serve(listener, ServerTls::people(&settings)?, shutdown.clone()));
        let endpoint = Endpoint {
            uri: format!("https://{address}"),
            server: ServerIdentity::Dns("localhost".to_owned()),
            authority: Pem::text(pem.clone()),
            identity: None,
        };
        let channel = connect(endpoint, Arc::new(TcpNet))?;
        Ok(Self { channel, address, authority: pem, _files: files, _running: shutdown.drop_guard() })
    }

    /// To the listener, with a session.
    ///
    /// # Errors
    /// For a token that cannot be sent.
    pub fn with(&self, token: &str) -> Result<Channel> {
        self.channel.clone().bearer(token)
    }
}

/// Entries of requests that wrote none themselves, straight to the store's outbox.
pub struct OutboxSink(pub Store);

#[async_trait]
impl AuditSink for OutboxSink {
    async fn record(&self, scope: &AuditScope, outcome: Result<(), Code>) -> Result<()> {
        let entry = AuditScope::new(scope.event, scope.actor.clone(), scope.request);
        scope.subject().into_iter().for_each(|subject| entry.concerns(subject));
        scope.item().into_iter().for_each(|item| entry.touches(item));
        scope.transfer().into_iter().for_each(|transfer| entry.moves(transfer));
        self.0.audit_now(&entry, AuditFacts::outcome(outcome)).await
    }
}
