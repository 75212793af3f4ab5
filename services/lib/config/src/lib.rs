//! domicile-config
