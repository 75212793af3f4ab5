//! Items of a record.
