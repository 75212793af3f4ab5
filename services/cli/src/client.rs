//! Calling a region: one connection, any number of callers on it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domicile_proto::audit::v1::audit_service_client::AuditServiceClient;
use domicile_proto::identity::v1::identity_service_client::IdentityServiceClient;
use domicile_proto::records::v1::records_service_client::RecordsServiceClient;
use domicile_proto::transfer::v1::transfer_service_client::TransferServiceClient;
use domicile_rpc::{Channel, Endpoint, Pem, ServerIdentity, TcpNet, connect, from_status};
use domicile_types::{Class, Code, Error, Result};
use tonic::{Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::place::Place;

/// How long one request may take unless the caller says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// One region, as one person sees it. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client(Channel);

impl Client {
    /// Prepares a connection to a region; it is made at the first request and made again when lost.
    ///
    /// # Errors
    /// When the authority's file or the endpoint does not fit.
    pub fn new(place: &Place) -> Result<Self> {
        let host = place.endpoint.trim_start_matches("https://");
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let endpoint = Endpoint {
            uri: place.endpoint.clone(),
            server: ServerIdentity::Dns(host.trim_matches(['[', ']']).to_owned()),
            authority: Pem::file(&place.ca),
            identity: None,
        };
        Ok(Self(connect(endpoint, Arc::new(TcpNet))?.deadline(DEADLINE)))
    }

    /// The same connection for the holder of this session token.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a token that cannot be sent.
    pub fn with_token(&self, token: &str) -> Result<Self> {
        self.0.clone().bearer(token).map(Self)
    }

    /// The same with another deadline for each request; of a stream it bounds the time until it begins.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self(self.0.clone().deadline(deadline))
    }

    fn transport(&self) -> Channel {
        self.0.clone()
    }

    /// Practices, accounts and sessions.
    #[must_use]
    pub fn identity(&self) -> IdentityServiceClient<Channel> {
        IdentityServiceClient::new(self.transport())
    }

    /// Records.
    #[must_use]
    pub fn records(&self) -> RecordsServiceClient<Channel> {
        RecordsServiceClient::new(self.transport())
    }

    /// Transfers.
    #[must_use]
    pub fn transfers(&self) -> TransferServiceClient<Channel> {
        TransferServiceClient::new(self.transport())
    }

    /// Whether the region serves, by the standard gRPC health service.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`] when it answers that it does not; or why it does not answer.
    pub async fn health(&self, deadline: Duration) -> Result<()> {
        self.health_of("", deadline).await
    }

    /// The same of one part of it, by the name it gives to the health service.
    ///
    /// # Errors
    /// As [`Client::health`].
    pub async fn health_of(&self, part: &str, deadline: Duration) -> Result<()> {
        let request = HealthCheckRequest { service: part.to_owned() };
        let mut health = HealthClient::new(self.with_deadline(deadline).transport());
        let response = tokio::time::timeout(deadline, answer(health.check(request))).await;
        let response = response.map_err(|_| Error::new(Code::DeadlineExceeded))??;
        match response.status() {
            ServingStatus::Serving => Ok(()),
            _ => Err(Error::new(Code::StoreUnavailable)),
        }
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.transport())
    }
}

/// Waits for an answer and takes it out of its envelope; a status becomes the error it stands for.
///
/// # Errors
/// What the region answered, or that it does not answer.
pub async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
    call.await.map(Response::into_inner).map_err(|status| from_status(&status))
}

/// Repeats a request that can be repeated (a read, or a write with an idempotency key) while the
/// region says that it cannot now, for at most `patience`. A frozen record names the wait itself.
///
/// # Errors
/// The last answer when `patience` is over, or the first that waiting does not change.
pub async fn patiently<T, F, Fut>(patience: Duration, mut request: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let until = tokio::time::Instant::now() + patience;
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match request().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = error.wait().unwrap_or(pause).clamp(Duration::from_millis(5), Duration::from_secs(5));
        if !passes(&error) || tokio::time::Instant::now() + wait > until {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn passes(error: &Error) -> bool {
    matches!(error.class(), Class::Unavailable | Class::ResourceExhausted)
        || matches!(error.code(), Code::Conflict | Code::AnswerLost)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_frozen_record_is_waited_for_and_a_moved_one_is_not() {
        let calls = AtomicU32::new(0);
        let frozen = || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if call < 3 {
                    Err(Error::new(Code::RecordFrozen).retry_after(Duration::from_millis(100)))
                } else {
                    Ok(call)
                }
            }
        };
        assert_eq!(patiently(Duration::from_secs(5), frozen).await.unwrap(), 3);

        let moved = || async { Err::<(), _>(Error::new(Code::RecordMoved)) };
        assert_eq!(patiently(Duration::from_secs(5), moved).await.unwrap_err().code(), Code::RecordMoved);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let never = || async { Err::<(), _>(Error::new(Code::RecordFrozen)) };
        let began = tokio::time::Instant::now();
        assert!(patiently(Duration::from_secs(2), never).await.is_err());
        assert!(began.elapsed() <= Duration::from_secs(2));
    }
}
