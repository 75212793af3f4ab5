//! What the store tells about itself.

use domicile_types::Result;

use crate::{Backend, Scope, Store, migrate, values};

/// The store's part of a health report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Which database.
    pub backend: Backend,
    /// Whether the database itself keeps roles apart and hides rows of others (P9); SQLite does not.
    pub roles: bool,
    /// The newest migration.
    pub schema: &'static str,
    /// Whether this process sequences the audit log.
    pub sequencer: bool,
}

impl Store {
    /// Asks the database for a sign of life, through the same pool and task as any read.
    ///
    /// # Errors
    /// [`StoreUnavailable`](domicile_types::Code::StoreUnavailable) when it does not answer.
    pub async fn health(&self) -> Result<Health> {
        let alive = self.read("health", Scope::System, |tx| {
            Box::pin(
                async move { tx.scalar::<i64>("SELECT COUNT(*) AS value FROM job_lease", values![]).await },
            )
        });
        alive.await?;
        let engine = &self.inner.engine;
        let roles = engine.backend == Backend::Postgres;
        Ok(Health {
            backend: engine.backend,
            roles,
            schema: migrate::SCHEMA,
            sequencer: !roles || engine.sequencer.is_some(),
        })
    }
}
