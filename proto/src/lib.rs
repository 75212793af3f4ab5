//! The gRPC services of Domicile, generated from `proto/domicile/*/v1/*.proto`, and what each RPC
//! declares about itself.
//!
//! The generated messages have no `Debug`: it would print PHI.

/// What an RPC declares: its audit event (P37) and who may call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The HTTP/2 path, `/package.Service/Method`.
    pub path: &'static str,
    /// The audit event's name; `none` for RPCs that show nothing about anybody.
    pub audit: &'static str,
    /// The names of the roles that may call it.
    pub roles: &'static [&'static str],
}

/// Every RPC of every Domicile service.
pub const RULES: &[Rule] = include!(concat!(env!("OUT_DIR"), "/rules.rs"));

/// The encoded file descriptor set, with the options and source comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The rule of a path.
#[must_use]
pub fn rule(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

/// Practices, accounts and sessions.
pub mod identity {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("domicile.identity.v1");
    }
}
/// Clients' records.
pub mod records {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("domicile.records.v1");
    }
}
/// Transfers, for people, for the coordinator and between regions.
pub mod transfer {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("domicile.transfer.v1");
    }
}
/// The audit log.
pub mod audit {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("domicile.audit.v1");
    }
}
/// The coordinator's view.
pub mod coordinator {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("domicile.coordinator.v1");
    }
}
