//! Names of regions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A region's short name, such as `eu`: two to eight lower-case ASCII letters.
///
/// Regions are configuration (`regions/*.toml`), so this is a name and no closed list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionId(String);

/// The text is not a region's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a region's name is two to eight lower-case letters")]
pub struct InvalidRegion;

impl RegionId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidRegion`] when the text is not two to eight lower-case ASCII letters.
    pub fn new(name: &str) -> Result<Self, InvalidRegion> {
        let fits = (2..=8).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase());
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidRegion) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RegionId {
    type Error = InvalidRegion;
    fn try_from(name: String) -> Result<Self, InvalidRegion> {
        Self::new(&name)
    }
}

impl std::str::FromStr for RegionId {
    type Err = InvalidRegion;
    fn from_str(name: &str) -> Result<Self, InvalidRegion> {
        Self::new(name)
    }
}

impl From<RegionId> for String {
    fn from(region: RegionId) -> Self {
        region.0
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
