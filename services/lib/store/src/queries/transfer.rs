//! Transfers, their tombstones and leases.
