//! SPIFFE IDs: the names of peers in their certificates.

use std::fmt;

use domicile_types::RegionId;
use serde::Deserialize;

/// A SPIFFE ID (SPIFFE-ID §2): `spiffe://trust-domain/path`, at most 2,048 bytes, always compared whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Checks and wraps a URI.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let fits = uri.len() <= 2_048 && trust_domain(domain) && path.split('/').all(segment);
        fits.then(|| Self(uri.to_owned()))
    }

    /// A region's name in a trust domain.
    #[must_use]
    pub fn region(trust_domain: &str, region: &RegionId) -> Option<Self> {
        Self::parse(&format!("spiffe://{trust_domain}/region/{region}"))
    }

    /// The coordinator's name in a trust domain.
    #[must_use]
    pub fn coordinator(trust_domain: &str) -> Option<Self> {
        Self::parse(&format!("spiffe://{trust_domain}/coordinator"))
    }

    /// An operator's name in a trust domain.
    #[must_use]
    pub fn operator(trust_domain: &str, name: &str) -> Option<Self> {
        segment(name).then(|| Self::parse(&format!("spiffe://{trust_domain}/operator/{name}"))).flatten()
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.0.trim_start_matches("spiffe://").split('/').next().unwrap_or_default()
    }
}

/// Whether the text is a trust domain's name: lower-case letters, digits, dots, dashes, underscores.
pub(crate) fn trust_domain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    (1..=255).contains(&name.len()) && name.bytes().all(allowed)
}

fn segment(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
}

impl TryFrom<String> for SpiffeId {
    type Error = &'static str;
    fn try_from(uri: String) -> Result<Self, Self::Error> {
        Self::parse(&uri).ok_or("not a SPIFFE ID such as spiffe://example.org/region/eu")
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_taken() {
        let eu = RegionId::new("eu").unwrap();
        assert_eq!(
            SpiffeId::region("domicile.test", &eu).unwrap().as_str(),
            "spiffe://domicile.test/region/eu"
        );
        assert_eq!(SpiffeId::coordinator("domicile.test").unwrap().trust_domain(), "domicile.test");
        for wrong in [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://A/x",
            "spiffe://a/x/",
            "spiffe://a//x",
            "spiffe://a/../x",
            "spiffe://a/x?y",
            "spiffe://a/x#y",
            "spiffe://a:1/x",
            "spiffe://u@a/x",
            "https://a/x",
            "spiffe://a/x\0",
            "spiffe://a/x y",
            "SPIFFE://a/x",
        ] {
            assert!(SpiffeId::parse(wrong).is_none(), "{wrong}");
        }
        assert!(SpiffeId::operator("a", "x/y").is_none());
        assert!(SpiffeId::parse(&format!("spiffe://a/{}", "x".repeat(2_048))).is_none());
    }
}
