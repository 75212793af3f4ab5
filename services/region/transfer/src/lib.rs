//! domicile-transfer
