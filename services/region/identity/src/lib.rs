//! Practices, accounts and sessions of one region: who may sign in, and as what.
//!
//! Passwords are Argon2id hashes, sessions and invitations 256 random bits of which only the SHA-256
//! is kept, addresses are found by a blind index and lie sealed like names.

mod app;
mod grpc;

pub use app::{Bootstrapped, Identity, Parts, Person};
