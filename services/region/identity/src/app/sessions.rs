//! From a session's token to the person, at every request.
//!
//! Nothing is cached: one indexed read a request, so that a session ended on one replica is ended on
//! all of them at once. When a session was last used is written down at most once a minute.

use std::time::Duration;

use async_trait::async_trait;
use domicile_rpc::Sessions;
use domicile_store::Scope;
use domicile_store::queries::session::{self, Session};
use domicile_types::{Actor, Code, Error, RegionId, Result, Timestamp};

use super::{Identity, secret};

/// How often a session's last use is written down.
const TOUCH: Duration = Duration::from_secs(60);

/// What a token leads to.
enum Found {
    Session(Session),
    /// The record has moved, and the session was open when it did.
    Moved(RegionId, u64),
    Nothing,
}

#[async_trait]
impl Sessions for Identity {
    async fn actor(&self, token: &str) -> Result<Actor> {
        let unknown = || Error::new(Code::Unauthenticated);
        let hash = secret::hash(token).ok_or_else(unknown)?;
        match self.find(hash).await? {
            Found::Session(session) if self.alive(&session, self.0.ctx.now()) => {
                self.touch(hash, &session).await;
                Ok(person(hash, &session))
            }
            Found::Moved(region, epoch) => Err(Error::new(Code::RecordMoved).moved_to(region, epoch)),
            Found::Session(_) | Found::Nothing => Err(unknown()),
        }
    }
}

impl Identity {
    async fn find(&self, hash: [u8; 32]) -> Result<Found> {
        if let Some(session) = self.0.store.session(hash).await? {
            return Ok(Found::Session(session));
        }
        let read = self.0.store.read("session.moved", Scope::Lookup(hash), move |tx| {
            Box::pin(async move {
                let moved = session::session_moved(tx, hash).await?;
                Ok(moved.map_or(Found::Nothing, |(region, epoch)| Found::Moved(region, epoch)))
            })
        });
        read.await
    }

    /// Before its absolute end, and used within the idle time (P49).
    fn alive(&self, session: &Session, now: Timestamp) -> bool {
        now < session.ends_at && now < session.last_seen_at.plus(self.0.settings.idle)
    }

    /// A failure costs the session up to a minute of its idle time, not the person their request.
    async fn touch(&self, hash: [u8; 32], session: &Session) {
        if self.0.ctx.now().since(session.last_seen_at) < TOUCH.min(self.0.settings.idle / 2) {
            return;
        }
        let scope = session.subject_id.map_or(Scope::Account(session.account_id), Scope::Subject);
        let touched = self
            .0
            .store
            .write_unaudited("session.touch", scope, move |tx| Box::pin(session::session_touch(tx, hash)));
        if let Err(error) = touched.await {
            tracing::warn!(?error, "a session's last use was not written down");
        }
    }
}

fn person(hash: [u8; 32], session: &Session) -> Actor {
    Actor {
        account: Some(session.account_id),
        practice: session.practice_id,
        subject: session.subject_id,
        authenticated_at: Some(session.authenticated_at),
        session: Some(hash),
        ..Actor::of(session.role)
    }
}
