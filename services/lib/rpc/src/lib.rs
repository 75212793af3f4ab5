//! gRPC in and out of a process: sockets, TLS, who calls, and the audit of every call.
//!
//! A process has two listeners: one for people's clients (TLS 1.3, sessions by bearer token), one for
//! peers (TLS 1.3 both ways, known by the SPIFFE ID in their certificate). Around every service lies
//! one [`guard::Guard`]: it finds the RPC's rule, establishes the caller, checks the role, bounds the
//! time, and records the audit entry before the answer leaves (P37).
//!
//! Sockets, TLS, hyper and tonic's transport live here and nowhere else. There is no way to serve or
//! to call in plain text (P7).

pub mod audit;
mod body;
pub mod client;
mod collector;
mod doors;
mod expiry;
pub mod guard;
mod material;
pub mod net;
mod observe;
pub mod peers;
mod rules;
pub mod server;
pub mod status;
mod tls;

pub use audit::{ApplicationLog, AuditSink, Sessions};
pub use client::{Channel, ClientIdentity, Endpoint, ServerIdentity, connect};
pub use collector::collector;
pub use expiry::valid_until;
pub use guard::{Deadline, actor, deadline, scope};
pub use material::Pem;
pub use net::{Io, Listener, Net, TcpNet};
pub use peers::Peers;
pub use server::Server;
pub use status::{from_status, from_stream, to_status};
pub use tls::ServerTls;
