//! The policies of a deployment's regions: those this release ships, over them those the deployment's
//! folder has, and over these the ones somebody brings along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domicile_cli::failure::{Failure, Result};
use domicile_config::Policies;
use domicile_types::RegionId;

use super::files;
use super::layout::Layout;

const SHIPPED: [(&str, &str); 4] = [
    ("us", include_str!("../../../../regions/us.toml")),
    ("eu", include_str!("../../../../regions/eu.toml")),
    ("ca", include_str!("../../../../regions/ca.toml")),
    ("au", include_str!("../../../../regions/au.toml")),
];

/// The texts of every region's policy, checked whole. Nothing of them is written yet.
pub(crate) struct Texts {
    texts: BTreeMap<String, String>,
    policies: Policies,
}

impl Texts {
    /// Reads the deployment's own policies and those in `brought`, and checks that all fit one another.
    /// A file that is brought along stands in the place of the deployment's, and this of the shipped one.
    pub(crate) fn gather(layout: &Layout, brought: Option<&Path>) -> Result<Self> {
        let shipped = SHIPPED.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let mut texts = BTreeMap::from(shipped);
        if layout.policies().is_dir() {
            texts.extend(texts_in(&layout.policies())?);
        }
        if let Some(folder) = brought {
            let found = texts_in(folder)?;
            if found.is_empty() {
                let what = format!("{}: no <region>.toml in it", folder.display());
                return Err(Failure::Usage(what));
            }
            texts.extend(found);
        }
        let policies = Policies::parse(texts.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
        Ok(Self { texts, policies })
    }

    /// The regions there is a policy for.
    pub(crate) fn regions(&self) -> Vec<RegionId> {
        self.policies.iter().map(|policy| policy.region.clone()).collect()
    }

    /// Writes what differs into the deployment's folder: the policies of every region, because notices
    /// name regions a deployment may not have.
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        files::folder(&layout.policies())?;
        for (name, text) in &self.texts {
            let path = layout.policies().join(format!("{name}.toml"));
            if files::read(&path)?.as_ref() != Some(text) {
                files::replace(&path, text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The TOML files of a folder, by the names of their regions.
fn texts_in(folder: &Path) -> Result<Vec<(String, String)>> {
    let failed = |cause| Failure::file(folder, &cause);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).map_err(|cause| Failure::file(&path, &cause))?;
            found.push((name.to_owned(), text));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifth() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/regions")
    }

    #[test]
    fn what_is_brought_along_stays_and_what_contradicts_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        let first = Texts::gather(&layout, None).unwrap();
        assert_eq!(first.regions().len(), 4);
        first.write(&layout).unwrap();

        let more = Texts::gather(&layout, Some(&fifth())).unwrap();
        assert_eq!(more.regions().len(), 5);
        assert!(!layout.policies().join("nz.toml").exists());
        more.write(&layout).unwrap();
        assert_eq!(Texts::gather(&layout, None).unwrap().regions().len(), 5);

        let bad = folder.path().join("bad");
        std::fs::create_dir(&bad).unwrap();
        assert!(Texts::gather(&layout, Some(&bad)).is_err(), "nothing in it");
        let text = std::fs::read_to_string(fifth().join("nz.toml")).unwrap();
        std::fs::write(bad.join("nz.toml"), text.replacen("from = \"ca\"", "from = \"mars\"", 1)).unwrap();
        let refused = Texts::gather(&layout, Some(&bad)).err().unwrap().to_string();
        assert!(refused.contains("nz.toml: inbound.mars"), "{refused}");
    }
}
