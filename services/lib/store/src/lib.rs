//! domicile-store
