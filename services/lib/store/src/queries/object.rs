//! Large sealed objects.
