//! domicile-coordinator
