//! `domicile bootstrap`: the first accounts of a region, made with access to its database because
//! nobody can sign in yet.

use clap::Args;
use domicile_cli::failure::Result;
use domicile_cli::{App, text};
use domicile_config::RegionSettings;
use domicile_identity::{Bootstrapped, Person};
use domicile_types::Ctx;
use serde_json::json;

use super::ConfigArgs;
use crate::compose::Foundation;

/// The first people.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints an invitation code for each who has no password yet; each sets it with `domicile account activate`.
Run again for the same people it gives fresh codes and changes nothing else.

Example:
  domicile bootstrap --config eu.toml --operator-email op@example.org --operator-name \"O. Perator\" \\
      --compliance-email audit@example.org --compliance-name \"A. Uditor\"")]
pub(crate) struct BootstrapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The operator's e-mail address.
    #[arg(long)]
    operator_email: String,
    /// The operator's name.
    #[arg(long)]
    operator_name: String,
    /// The compliance officer's e-mail address.
    #[arg(long)]
    compliance_email: String,
    /// The compliance officer's name.
    #[arg(long)]
    compliance_name: String,
}

pub(crate) async fn run(app: &App, args: BootstrapArgs) -> Result<()> {
    let settings = RegionSettings::load(&args.config.config)?;
    let operator = Person { email: args.operator_email, name: args.operator_name };
    let compliance = Person { email: args.compliance_email, name: args.compliance_name };
    let made = bootstrap(settings, operator, compliance, &app.ctx).await?;
    let [operator, compliance] = made.map(|made| (made.account.to_string(), made.invitation));
    app.out.answer(
        || {
            let person = |(account, invitation)| json!({ "account": account, "invitation": invitation });
            json!({ "operator": person(operator.clone()), "compliance": person(compliance.clone()) })
        },
        || {
            let row = |role: &str, (account, invitation): &(String, Option<String>)| {
                let code = invitation.clone().unwrap_or_else(|| "has a password already".to_owned());
                vec![role.to_owned(), account.clone(), code]
            };
            let rows = [row("operator", &operator), row("compliance", &compliance)];
            text::table(&["role", "account", "invitation"], &rows)
        },
    )
}

/// Makes the first operator and compliance accounts, or gives fresh invitations to those who have no
/// password yet.
pub(crate) async fn bootstrap(
    settings: RegionSettings,
    operator: Person,
    compliance: Person,
    ctx: &Ctx,
) -> Result<[Bootstrapped; 2]> {
    let foundation = Foundation::open(settings, ctx.clone()).await?;
    let made = foundation.identity()?.bootstrap(operator, compliance).await;
    foundation.close().await?;
    Ok(made?)
}
