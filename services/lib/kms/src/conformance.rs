//! Suites that every key service and every store of wrapped keys must pass.
