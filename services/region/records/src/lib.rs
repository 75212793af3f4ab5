//! domicile-records
