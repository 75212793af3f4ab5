//! This process as one replica of its region: heard of while it holds keys in memory, and dropping those
//! it is told to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domicile_kms::Keyring;
use domicile_store::queries::replica;
use domicile_store::{Scope, Store};
use domicile_transfer::ports::Replicas;
use domicile_types::ids::uuid_v4;
use domicile_types::{Code, Error, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a replica looks whose keys it has to drop.
const LOOK: Duration = Duration::from_millis(250);
/// Signs of life that a replica gives in the time for which each lets it hold keys.
const BEATS: u32 = 10;
/// When a replica that gives no sign of life is forgotten.
const GONE: Duration = Duration::from_secs(3_600);
/// How often somebody looks whether all others have dropped keys.
const WAIT: Duration = Duration::from_millis(100);

/// One replica.
#[derive(Clone)]
pub(crate) struct Replica {
    store: Store,
    keyring: Arc<Keyring>,
    id: Uuid,
    /// How long after its last sign of life a replica may use keys in its memory; then it counts as holding
    /// none, dead or not. The process measures it from before the sign was sent, others from when the
    /// database took it.
    hold: Duration,
}

impl Replica {
    /// Joins the region's replicas: before it holds any key.
    pub(crate) async fn join(store: Store, keyring: Arc<Keyring>, hold: Duration) -> Result<Self> {
        let this = Self { id: uuid_v4(store.ctx().rng.as_ref()), store, keyring, hold };
        this.register().await?;
        Ok(this)
    }

    async fn register(&self) -> Result<()> {
        let (id, from) = (self.id, Instant::now());
        // What is in memory from before may have been dropped by everybody else meanwhile.
        self.keyring.forget_all();
        let join = self
            .store
            .write_unaudited("replica.join", Scope::System, move |tx| Box::pin(replica::join(tx, id)));
        join.await?;
        self.keyring.trust_until(from + self.hold);
        Ok(())
    }

    /// Looks and gives signs of life until `ends`.
    pub(crate) async fn run(&self, ends: CancellationToken) {
        let mut beaten = Instant::now();
        while ends.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if let Err(error) = self.look(&mut beaten).await {
                tracing::warn!(code = error.code().as_str(), cause = ?error, "this replica cannot be heard of");
                if beaten.elapsed() >= self.hold {
                    self.keyring.forget_all();
                }
            }
        }
    }

    async fn look(&self, beaten: &mut Instant) -> Result<()> {
        let (id, hold) = (self.id, self.hold);
        if beaten.elapsed() >= hold / BEATS {
            let from = Instant::now();
            let beat = self.store.write_unaudited("replica.beat", Scope::System, move |tx| {
                Box::pin(replica::beat(tx, id, hold, GONE))
            });
            if beat.await? {
                if beaten.elapsed() >= hold {
                    self.keyring.forget_all();
                }
                self.keyring.trust_until(from + self.hold);
            } else {
                self.register().await?;
            }
            *beaten = from;
        }
        let asked =
            self.store.read("replica.asked", Scope::System, move |tx| Box::pin(replica::drop_list(tx, id)));
        let asked = asked.await?;
        if asked.is_empty() {
            return Ok(());
        }
        asked.iter().for_each(|(_, about)| self.keyring.forget(*about));
        tracing::info!(count = asked.len(), "dropped keys another replica asked to drop");
        let asked: Arc<[(Uuid, Uuid)]> = asked.into();
        let done = self.store.write_unaudited("replica.dropped", Scope::System, move |tx| {
            let asked = Arc::clone(&asked);
            Box::pin(async move { replica::drop_done(tx, id, &asked).await })
        });
        done.await
    }

    /// Leaves the region's replicas, without a key in memory.
    pub(crate) async fn leave(&self) -> Result<()> {
        let id = self.id;
        self.keyring.trust_until(Instant::now());
        self.keyring.forget_all();
        self.store
            .write_unaudited("replica.leave", Scope::System, move |tx| Box::pin(replica::leave(tx, id)))
            .await
    }
}

#[async_trait]
impl Replicas for Replica {
    async fn drop_keys(&self, about: &[Uuid]) -> Result<Uuid> {
        about.iter().for_each(|about| self.keyring.forget(*about));
        let asking = uuid_v4(self.store.ctx().rng.as_ref());
        let (id, about): (_, Arc<[Uuid]>) = (self.id, about.into());
        let ask = self.store.write_unaudited("replica.ask", Scope::System, move |tx| {
            let about = Arc::clone(&about);
            Box::pin(async move { replica::drop_ask(tx, asking, id, &about).await })
        });
        ask.await?;
        Ok(asking)
    }

    async fn dropped(&self, asking: Uuid) -> Result<()> {
        let hold = self.hold;
        let deadline = Instant::now() + hold * 2;
        loop {
            let open = self.store.write_unaudited("replica.open", Scope::System, move |tx| {
                Box::pin(replica::drop_open(tx, asking, hold))
            });
            if open.await? == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(Code::Conflict).at("another replica has not dropped its keys"));
            }
            tokio::time::sleep(WAIT).await;
        }
    }
}
