//! What the layer needs of identity and audit; the region's services implement both.

use async_trait::async_trait;
use domicile_types::{Actor, AuditScope, Code, Result};

/// Knows who a session token belongs to.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// The person behind a token, with the session's idle time renewed.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] for a token that is unknown, idle or ended; the store's own errors.
    async fn actor(&self, token: &str) -> Result<Actor>;
}

/// Writes audit entries of requests whose change did not write its own.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Makes the entry durable, and only then returns. `outcome` holds the code the caller is
    /// answered with.
    ///
    /// # Errors
    /// Whatever kept the entry from being durable; the request is then refused (P37).
    async fn record(&self, scope: &AuditScope, outcome: Result<(), Code>) -> Result<()>;
}

/// The sink of a process without an audit log of its own, the coordinator: refusals go to its
/// application log. It serves no RPC whose rule names an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplicationLog;

#[async_trait]
impl AuditSink for ApplicationLog {
    async fn record(&self, scope: &AuditScope, outcome: Result<(), Code>) -> Result<()> {
        let outcome = outcome.err().map_or("ok", Code::as_str);
        tracing::info!(event = scope.event, role = scope.actor.role.as_str(), request = %scope.request, outcome, "call");
        Ok(())
    }
}
