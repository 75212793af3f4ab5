//! domicile-cli
