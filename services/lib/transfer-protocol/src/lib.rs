//! domicile-transfer-protocol
