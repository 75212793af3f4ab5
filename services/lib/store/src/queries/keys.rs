//! Wrapped keys, in the key store's own database.
