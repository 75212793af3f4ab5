//! domicile-evidence
