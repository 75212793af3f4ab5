//! domicile-rpc
