//! The first accounts of a deployment: an operator and a compliance officer in each region, with
//! generated passwords that lie in one file for the person who started it.

use std::collections::BTreeMap;

use domicile_cli::failure::Result;
use domicile_types::{Ctx, RegionId};
use serde::{Deserialize, Serialize};

use super::files;
use super::layout::Layout;

/// An e-mail address and its password.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credential {
    pub(crate) email: String,
    pub(crate) password: String,
}

/// The first accounts of one region.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirstAccounts {
    pub(crate) operator: Credential,
    pub(crate) compliance: Credential,
}

/// `credentials.toml`: the first accounts of every region.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(crate) struct Credentials(pub(crate) BTreeMap<RegionId, FirstAccounts>);

impl Credentials {
    /// The folder's credentials; those that are missing are made and written before they are used.
    pub(crate) fn open(layout: &Layout, regions: &[RegionId], ctx: &Ctx) -> Result<Self> {
        let mut credentials: Self = files::read_toml(&layout.credentials())?.unwrap_or_default();
        for region in regions {
            credentials.0.entry(region.clone()).or_insert_with(|| FirstAccounts::make(region, ctx));
        }
        files::replace_toml(&layout.credentials(), &credentials)?;
        Ok(credentials)
    }

    /// The first accounts of a region.
    pub(crate) fn of(&self, region: &RegionId) -> Option<&FirstAccounts> {
        self.0.get(region)
    }
}

impl FirstAccounts {
    fn make(region: &RegionId, ctx: &Ctx) -> Self {
        let credential = |role: &str| Credential {
            email: format!("{role}@{region}.domicile.local"),
            password: password(ctx),
        };
        Self { operator: credential("operator"), compliance: credential("compliance") }
    }
}

/// A password of 24 letters and digits, 120 bits.
pub(crate) fn password(ctx: &Ctx) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
    ctx.random::<24>().iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        let eu = RegionId::new("eu").unwrap();
        let regions = [eu.clone(), RegionId::new("ca").unwrap()];
        let first = Credentials::open(&layout, &regions, &Ctx::system()).unwrap();
        let second = Credentials::open(&layout, &regions, &Ctx::system()).unwrap();
        let of = |credentials: &Credentials| credentials.of(&eu).unwrap().operator.password.clone();
        assert_eq!(of(&first), of(&second));
        assert_eq!(of(&first).len(), 24);
        assert_ne!(of(&first), first.of(&eu).unwrap().compliance.password);
    }
}
