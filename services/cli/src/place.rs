//! Where a region is: from a deployment's folder, or by endpoint and authority.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result, reason};

/// The file's name in a deployment's folder.
pub const FILE: &str = "client.toml";

/// `client.toml`: how to reach each region of one deployment. `domicile up` writes it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFile {
    /// The regions by name.
    pub regions: BTreeMap<String, RegionPlace>,
}

/// How to reach one region.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RegionPlace {
    /// The listener for people, `https://host:port`.
    pub endpoint: String,
    /// The authority that signs its certificate, a PEM file; relative to the folder.
    pub ca: PathBuf,
}

/// One region's address, ready to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name sessions are kept under: the region's, or the endpoint when that is all we know.
    pub name: String,
    /// The listener for people, `https://host:port`.
    pub endpoint: String,
    /// The authority that signs its certificate, a PEM file.
    pub ca: PathBuf,
}

impl ClientFile {
    /// Reads `client.toml` of a deployment's folder.
    ///
    /// # Errors
    /// When it is not there or not of this form.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|cause| {
            Failure::local(
                format!("{}: {}", path.display(), reason(&cause)),
                "Name the folder of a deployment that `domicile up` has started, or use --endpoint and --ca.",
            )
        })?;
        toml::from_str(&text).map_err(|_| {
            let what = format!("{}: not a client file", path.display());
            Failure::local(what, "Start `domicile up` on this folder again; it writes the file anew.")
        })
    }

    /// The place of one region.
    ///
    /// # Errors
    /// When the deployment has no region of this name; names those it has.
    pub fn place(&self, folder: &Path, region: &str) -> Result<Place> {
        let Some(found) = self.regions.get(region) else {
            let known: Vec<_> = self.regions.keys().map(String::as_str).collect();
            return Err(Failure::Usage(format!(
                "this deployment has no region of that name; it has {}",
                known.join(", ")
            )));
        };
        Ok(Place { name: region.to_owned(), endpoint: found.endpoint.clone(), ca: folder.join(&found.ca) })
    }
}

/// The folder `domicile up` uses when none is named: `$XDG_DATA_HOME/domicile`, or
/// `~/.local/share/domicile`.
#[must_use]
pub fn default_folder() -> Option<PathBuf> {
    base("XDG_DATA_HOME", ".local/share")
}

/// The folder sessions are kept in when no deployment's folder is named.
#[must_use]
pub fn state_folder() -> Option<PathBuf> {
    base("XDG_STATE_HOME", ".local/state")
}

fn base(variable: &str, under_home: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(under_home)))?;
    Some(base.join("domicile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_found_by_name_and_a_wrong_name_shows_the_right_ones() {
        let text = "[regions.eu]\nendpoint = \"https://127.0.0.1:4000\"\nca = \"ca.pem\"\n";
        let file: ClientFile = toml::from_str(text).unwrap();
        let place = file.place(Path::new("/data"), "eu").unwrap();
        assert_eq!(place.ca, Path::new("/data/ca.pem"));
        let failure = file.place(Path::new("/data"), "mars").unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("it has eu"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<ClientFile>("[regions]\n[extra]\n").is_err());
    }
}
