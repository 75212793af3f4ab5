//! Until when a certificate is valid.

use std::path::Path;

use domicile_types::{Code, Error, Result, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::material::{Pem, chain};

/// When the first certificate in a PEM file, the process's own, ends.
///
/// # Errors
/// [`Code::ConfigurationInvalid`] when the file holds no certificate.
pub fn valid_until(file: &Path) -> Result<Timestamp> {
    let broken = || Error::new(Code::ConfigurationInvalid).at("certificate");
    let chain = chain(&Pem::file(file), "certificate")?;
    let own = chain.first().ok_or_else(broken)?;
    let (_, own) = X509Certificate::from_der(own).map_err(|_| broken())?;
    let seconds = own.validity().not_after.timestamp();
    Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}
