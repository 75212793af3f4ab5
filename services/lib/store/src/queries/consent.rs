//! Consents and their events.
