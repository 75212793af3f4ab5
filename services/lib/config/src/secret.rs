//! Secrets in settings: from the environment, from a file of their own, never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use domicile_types::{Code, Error, Result};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A value that no log or error may show: written in place (usually through the environment), or in
/// a file that `{ file = "…" }` names.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// The value itself.
    Inline(#[serde(deserialize_with = "inline")] Zeroizing<String>),
    /// Where the value is; surrounding white space is not part of it.
    File(SecretFile),
}

/// A file that holds one secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Its path.
    pub file: PathBuf,
}

fn inline<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl Secret {
    /// A secret from a value at hand.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self::Inline(Zeroizing::new(value.into()))
    }

    /// The value, for the one place that needs it.
    ///
    /// # Errors
    /// [`Code::ConfigurationInvalid`] when the file cannot be read.
    pub fn reveal(&self) -> Result<Zeroizing<String>> {
        match self {
            Self::Inline(value) => Ok(value.clone()),
            Self::File(SecretFile { file }) => {
                let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|cause| {
                    Error::new(Code::ConfigurationInvalid).at("secret file").because(cause)
                })?;
                Ok(Zeroizing::new(text.trim().to_owned()))
            }
        }
    }

    /// Makes a relative file path relative to `base` instead of the working directory.
    pub(crate) fn rebase(&mut self, base: &Path) {
        if let Self::File(SecretFile { file }) = self {
            *file = base.join(&*file);
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[secret]"),
            Self::File(from) => from.fmt(f),
        }
    }
}
