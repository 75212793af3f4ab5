//! domicile-crypto
