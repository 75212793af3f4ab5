//! domicile-tests
