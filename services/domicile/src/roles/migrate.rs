//! `domicile migrate`.

use domicile_cli::App;
use domicile_cli::failure::Result;
use domicile_config::{Environment, RegionSettings};
use domicile_types::{Code, Error};
use serde_json::json;

use super::ConfigArgs;

/// Brings a region's databases to this release.
pub(crate) async fn run(app: &App, args: ConfigArgs) -> Result<()> {
    let settings = RegionSettings::load(&args.config)?;
    migrate(&settings).await?;
    let digest = domicile_store::schema_digest();
    app.out.answer(|| json!({ "schema": digest }), || format!("The schema is of this release ({digest})."))
}

/// Migrates the data as its owner; a SQLite file has no owner but the one who runs it.
pub(crate) async fn migrate(settings: &RegionSettings) -> Result<()> {
    let database = &settings.database;
    let url = database.url.reveal()?;
    let owner = match &database.owner_url {
        Some(owner) => owner.reveal()?,
        None if url.starts_with("sqlite:") => url,
        None => return Err(Error::new(Code::ConfigurationMissing).at("database.owner_url").into()),
    };
    let production = settings.environment == Environment::Production;
    Ok(domicile_store::migrate(&owner, &database.keys_url.reveal()?, production).await?)
}
