//! domicile-audit
