//! The first accounts of a deployment: an operator and a compliance officer in each region, with
//! generated passwords that lie in one file for the person who started it.

use std::collections::{BTreeMap, BTreeSet};

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
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    accounts: BTreeMap<RegionId, FirstAccounts>,
    /// Those that were made just now, and may turn out to have passwords already.
    fresh: BTreeSet<RegionId>,
}

impl Credentials {
    /// The folder's credentials; those that are missing are made and written before they are used.
    pub(crate) fn open(layout: &Layout, regions: &[RegionId], ctx: &Ctx) -> Result<Self> {
        let accounts = files::read_toml(&layout.credentials())?.unwrap_or_default();
        let mut credentials = Self { accounts, fresh: BTreeSet::new() };
        for region in regions {
            if !credentials.accounts.contains_key(region) {
                credentials.accounts.insert(region.clone(), FirstAccounts::make(region, ctx));
                credentials.fresh.insert(region.clone());
            }
        }
        files::replace_toml(&layout.credentials(), &credentials.accounts)?;
        Ok(credentials)
    }

    /// The region's first accounts have passwords already: those that were made just now are none of theirs,
    /// and are not left where somebody would try them.
    pub(crate) fn known(&mut self, layout: &Layout, region: &RegionId) -> Result<()> {
        if self.fresh.remove(region) {
            self.accounts.remove(region);
            files::replace_toml(&layout.credentials(), &self.accounts)?;
        }
        Ok(())
    }

    /// The first accounts of a region.
    pub(crate) fn of(&self, region: &RegionId) -> Option<&FirstAccounts> {
        self.accounts.get(region)
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

    #[test]
    fn passwords_that_would_not_work_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_path_buf());
        let (eu, ca) = (RegionId::new("eu").unwrap(), RegionId::new("ca").unwrap());
        let open = |regions: &[RegionId]| Credentials::open(&layout, regions, &Ctx::system()).unwrap();
        open(std::slice::from_ref(&eu));
        let mut second = open(&[eu.clone(), ca.clone()]);
        // Both regions say that their accounts have passwords: the file knows those of the first.
        second.known(&layout, &eu).unwrap();
        second.known(&layout, &ca).unwrap();
        assert!(second.of(&eu).is_some() && second.of(&ca).is_none());
        let kept: BTreeMap<RegionId, FirstAccounts> =
            files::read_toml(&layout.credentials()).unwrap().unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), [&eu]);
    }
}
