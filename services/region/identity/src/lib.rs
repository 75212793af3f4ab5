//! domicile-identity
