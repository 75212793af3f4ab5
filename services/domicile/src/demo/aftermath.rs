//! Once every process has stopped: a look into the databases themselves.

use domicile_cli::App;
use domicile_cli::failure::{Failure, Result};
use domicile_config::RegionSettings;
use domicile_transfer_protocol::TransferStore as _;
use domicile_types::{RegionId, SubjectId, TransferId};
use serde_json::{Value, json};

use super::stage::{Checks, show_check};
use super::{Moved, Outcome, proof};
use crate::compose::Foundation;
use crate::up::Layout;

/// Looks for what must not be there, and adds up all checks.
pub(super) async fn look(app: &App, layout: &Layout, moved: &Moved, mut checks: Checks) -> Result<Outcome> {
    app.out.text("\n── Everything has stopped; a look into the databases ──────────────────────────")?;
    let mut check = |held: bool, what: String| {
        show_check(app, held, &what)?;
        checks.push((what, held));
        Ok::<_, Failure>(())
    };
    let unfit = |_| Failure::local("an id of the demonstration is not a UUID", "Report this.");
    let subject: SubjectId = moved.subject.parse().map_err(unfit)?;

    let old = open(app, layout, "eu").await?;
    let remains = old.transfers().remains(subject).await?;
    let tables: Vec<_> = remains.tables.iter().map(|(table, rows)| format!("{table}: {rows}")).collect();
    let found = if tables.is_empty() { String::new() } else { format!(" ({})", tables.join(", ")) };
    check(tables.is_empty(), format!("the EU's database holds no row of the moved record{found}"))?;
    let keys = old.keyring.subject_key_count(subject).await?;
    check(keys == 0, "the EU's key store holds no key of it".to_owned())?;
    old.close().await?;

    if let Some(withdrawn) = &moved.withdrawn {
        let withdrawn: TransferId = withdrawn.parse().map_err(unfit)?;
        let new = open(app, layout, "ca").await?;
        let pages = new.transfers().staged_pages(withdrawn).await?.len();
        let rows = new.transfers().staged_headers(withdrawn).await?.len();
        check(pages + rows == 0, "Canada's database holds nothing of the withdrawn attempt".to_owned())?;
        new.close().await?;
    }
    let staging = layout.region(&region("ca")?).join("objects").join("staging");
    let left = if staging.exists() { proof::count_files(&staging) } else { Ok(0) };
    let left = left.map_err(|cause| Failure::file(&staging, &cause))?;
    check(left == 0, "Canada's object store holds nothing in transit".to_owned())?;

    let failed = checks.iter().filter(|(_, held)| !held).count();
    let all: Value = checks.iter().map(|(what, held)| json!({ "check": what, "held": held })).collect();
    Ok(Outcome { checks: checks.len(), failed, all })
}

fn region(name: &str) -> Result<RegionId> {
    RegionId::new(name).map_err(|cause| Failure::Usage(cause.to_string()))
}

async fn open(app: &App, layout: &Layout, name: &str) -> Result<Foundation> {
    let settings = RegionSettings::load(&layout.region(&region(name)?).config())?;
    Foundation::open(settings, app.ctx.clone()).await
}
