//! `domicile up`: a whole deployment on one machine, from one folder.

mod accounts;
mod certificates;
mod child;
mod deployment;
mod files;
mod layout;
mod policies;
mod settings;
mod state;

pub(crate) use accounts::{FirstAccounts, password};
pub(crate) use deployment::{Deployment, Wanted};
pub(crate) use layout::Layout;

use std::path::PathBuf;

use clap::Args;
use domicile_cli::failure::{Failure, Result};
use domicile_cli::{App, text};
use domicile_types::RegionId;
use serde_json::{Value, json};

use crate::roles::shutdown;

/// In the place of an address that is in no file.
const UNKNOWN: &str = "(not in credentials.toml)";

/// What is started.
#[derive(Args, Debug)]
#[command(after_help = "\
Everything lies in the folder of --data (by default ~/.local/share/domicile): databases, keys, objects,
certificates, logs. Ctrl-C stops every process; the next `up` on the same folder goes on where it was.
A region whose folder holds a `database.toml` (url, sequencer_url, keys_url, owner_url) runs on that
PostgreSQL database instead of SQLite files.

Examples:
  domicile up
  domicile up --data /srv/domicile --regions eu,ca
  domicile up --policies my-regions --regions us,eu,ca,au,nz
  domicile --region eu sign-in --email operator@eu.domicile.local")]
pub(crate) struct UpArgs {
    /// The regions; when left out those the folder has, or in a new one all there is a policy for.
    /// A folder's regions may become more, never fewer.
    #[arg(long, value_delimiter = ',', value_name = "REGIONS")]
    regions: Option<Vec<RegionId>>,
    /// A folder of policies, `<region>.toml` each, that are taken over into the deployment's own: for a
    /// region this release does not ship, or in the place of one it ships.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Makes the folder ready and starts nothing: look at the settings, or change them, first.
    #[arg(long)]
    prepare: bool,
}

/// Starts a deployment and keeps it running until it is told to stop.
pub(crate) async fn run(app: &App, args: UpArgs) -> Result<()> {
    let stop = shutdown::on_signals(false);
    let folder = app.folder()?;
    app.out.text(&format!("Preparing {}", folder.display()))?;
    let wanted = Wanted { regions: args.regions, policies: args.policies, ..Wanted::default() };
    let mut deployment = Deployment::prepare(&folder, wanted, &app.ctx).await?;
    if args.prepare {
        return app.out.text("Ready to start.");
    }
    let started = tokio::select! {
        started = deployment.start() => started,
        () = stop.cancelled() => Err(Failure::Status(0)),
    };
    let told = match started.and_then(|()| tell(app, &deployment)) {
        // Whoever wanted to know has gone; the regions serve on.
        Err(Failure::ReaderGone) => Ok(()),
        other => other,
    };
    if told.is_ok() {
        stop.cancelled().await;
    }
    app.out.text("Stopping.").ok();
    deployment.stop().await;
    told
}

fn tell(app: &App, deployment: &Deployment) -> Result<()> {
    let mut rows = Vec::new();
    for region in deployment.regions() {
        let place = deployment.place(region)?;
        let operator = deployment.accounts(region).map(|accounts| accounts.operator.email.clone());
        let operator = operator.unwrap_or_else(|_| UNKNOWN.to_owned());
        rows.push((region.to_string(), place.endpoint, operator));
    }
    let layout = deployment.layout();
    let on_sqlite = deployment.regions().filter(|region| !layout.database(region).exists()).count();
    let sqlite = match on_sqlite {
        0 => String::new(),
        _ => format!(
            "{on_sqlite} regions run on SQLite: for development, without roles or row-level security.\n"
        ),
    };
    let lost: Vec<_> = deployment.unknown_passwords().into_iter().map(RegionId::as_str).collect();
    let lost = match lost.as_slice() {
        [] => String::new(),
        regions => format!(
            "The first accounts of {} have passwords that are not in {}: bring that file back, or sign in with \
             accounts you know.\n",
            regions.join(", "),
            layout.credentials().display()
        ),
    };
    app.out.answer(
        || {
            let regions = rows.iter().map(|(region, endpoint, operator)| {
                json!({ "region": region, "endpoint": endpoint, "operator": operator })
            });
            json!({
                "folder": layout.folder(),
                "ca": layout.authority(),
                "credentials": layout.credentials(),
                "policy": layout.audit_policy(),
                "regions": regions.collect::<Value>(),
            })
        },
        || {
            let table: Vec<_> = rows.iter().map(|(a, b, c)| vec![a.clone(), b.clone(), c.clone()]).collect();
            let data = layout.folder().display();
            format!(
                "\n{}\n{}\nSign in, in another terminal:\n  \
                 domicile --data {data} --region {} sign-in --email {}\n\n\
                 {lost}{sqlite}Ctrl-C stops everything.\n",
                text::table(&["region", "endpoint", "operator"], &table),
                text::fields(&[
                    ("authority", layout.authority().display().to_string()),
                    ("passwords", layout.credentials().display().to_string()),
                    ("audit policy", layout.audit_policy().display().to_string()),
                    ("logs", format!("{data}/<region>/log")),
                ]),
                rows.first().map(|(region, ..)| region.as_str()).unwrap_or_default(),
                rows.first().map(|(.., operator)| operator.as_str()).unwrap_or_default(),
            )
        },
    )
}
