//! Signed statements of both lanes.
