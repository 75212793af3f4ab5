//! domicile-objects
