//! The audit log of one region: the sequencer that grows the tree and signs its heads, and what may be
//! asked of the log.
//!
//! Entries come in through the store, in the transaction of the change they tell of, or durably before
//! a read is answered (P37). One fenced [`Sequencer`] per region moves them from the outbox into an
//! RFC 6962 tree. The tree's last signed head is kept outside the database too ([`SignedHead`]): a
//! database that has lost entries refuses to be signed (P38).

pub mod app;
pub mod closing;
mod export;
pub mod grpc;
pub mod head;
pub mod jobs;
pub mod shared_head;

pub use app::{App, LogIdentity};
pub use closing::Closing;
pub use export::Bundle;
pub use grpc::AuditGrpc;
pub use head::{FileHead, Head, SignedHead};
pub use jobs::sequencer::{Covered, Pace, Parts, Sequencer};
pub use shared_head::SharedHead;
