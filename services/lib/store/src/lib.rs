//! The region's database: PostgreSQL, or SQLite on one machine.
//!
//! All SQL of the product lives in [`queries`], one file per resource, and every statement runs in a
//! named transaction of [`Store`]. A caller that goes away never cancels one.
//!
//! # How a query is written
//! A query is an async function over [`Tx`]: noun first, plain structs in and out, the same SQL text for
//! both databases. Placeholders are `$1…`, times are BIGINT microseconds, ids UUID, all counters BIGINT.
//! ```
//! use domicile_store::{FromRow, Row, Scope, Store, Tx, values};
//! use domicile_types::{Result, SubjectId};
//!
//! pub struct Home { pub epoch: u64, pub standing: String }
//!
//! impl FromRow for Home {
//!     fn from_row(row: &Row) -> Result<Self> {
//!         Ok(Self { epoch: row.get("epoch")?, standing: row.get("standing")? })
//!     }
//! }
//!
//! pub async fn residency_get(tx: &Tx, subject: SubjectId) -> Result<Option<Home>> {
//!     tx.one("SELECT epoch, standing FROM residency WHERE subject_id = $1", values![subject]).await
//! }
//!
//! // In a service's app.rs; a change uses `store.write(name, scope, &audit, …)` and `tx.audit(…)`:
//! async fn home(store: &Store, subject: SubjectId) -> Result<Option<Home>> {
//!     store.read("residency.get", Scope::Subject(subject), move |tx| Box::pin(residency_get(tx, subject))).await
//! }
//! ```
//! - Write the WHERE as though row-level security did not exist: SQLite has none.
//! - A closure may run several times (lost races): no effect outside the transaction, no call of a key
//!   service, no second transaction inside.
//! - A failed statement dooms the transaction: test with `ON CONFLICT … DO NOTHING` or `RETURNING`.
//! - Decide under a lock: first the `UPDATE … RETURNING` (or `SELECT … ` + [`Tx::for_update`]), then the rest;
//!   locks in the order consent, transfer, residency.
//! - `COUNT(*)` is read as `i64`; write `CAST(SUM(x) AS BIGINT)`; compare with `IS NOT DISTINCT FROM` for NULLs.
//! - [`Row::get`] for columns that are never NULL, [`Row::maybe`] for others; [`Tx::scalar`] reads the
//!   column named `value`. NULLs are bound as `None::<Type>`; `values!` takes ids, times, text, bytes, numbers.

pub mod audit;
mod backup;
mod bulk;
mod check;
pub mod datamap;
mod embedded;
mod engine;
pub mod failure;
mod flush;
mod health;
mod hot;
mod keys;
mod lanes;
mod migrate;
mod nagle;
pub mod observe;
mod pool;
mod protection;
pub mod queries;
mod scope;
mod settings;
mod store;
pub mod transfers;
mod tx;
mod value;

pub use audit::{AuditFacts, Pseudonyms};
pub use backup::Backups;
pub use failure::StoreFailure;
pub use health::Health;
pub use keys::KeyStore;
pub use migrate::{migrate, schema_digest};
pub use scope::Scope;
pub use settings::{Backend, Settings};
pub use store::Store;
pub use tx::{OnConflict, Tx};
pub use value::{Bind, Bound, Column, FromRow, Row};
