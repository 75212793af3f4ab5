//! Care relationships, grants of access and legal holds.
