//! The regions' policies as this release ships them.

use domicile_cli::failure::Result;
use domicile_types::RegionId;

use super::files;
use super::layout::Layout;

const SHIPPED: [(&str, &str); 4] = [
    ("us", include_str!("../../../../regions/us.toml")),
    ("eu", include_str!("../../../../regions/eu.toml")),
    ("ca", include_str!("../../../../regions/ca.toml")),
    ("au", include_str!("../../../../regions/au.toml")),
];

/// The regions this release has a policy for.
pub(crate) fn regions() -> Vec<RegionId> {
    SHIPPED.iter().filter_map(|(name, _)| RegionId::new(name).ok()).collect()
}

/// A region's policy, TOML text.
pub(crate) fn text(region: &RegionId) -> Option<&'static str> {
    SHIPPED.iter().find(|(name, _)| *name == region.as_str()).map(|(_, text)| *text)
}

/// Writes the policies a folder lacks, of every region: notices name regions a deployment may not have.
/// One that is there is the deployment's own and stays.
pub(crate) fn write(layout: &Layout) -> Result<()> {
    files::folder(&layout.policies())?;
    for (region, text) in SHIPPED {
        let path = layout.policies().join(format!("{region}.toml"));
        if !path.exists() {
            files::replace(&path, text.as_bytes())?;
        }
    }
    Ok(())
}
