//! domicile-kms
