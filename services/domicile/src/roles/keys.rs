//! `domicile keys`.

use clap::Subcommand;
use domicile_cli::failure::Result;
use domicile_cli::{App, text};
use domicile_config::RegionSettings;
use serde_json::json;

use super::ConfigArgs;
use crate::signing::{self, SigningKeys};

/// Signing keys.
#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Make the keys that are missing, sealed by the region's key service, and print what peers pin.
    Init(ConfigArgs),
}

impl KeysCommand {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        let Self::Init(args) = self;
        let settings = RegionSettings::load(&args.config)?;
        let service = signing::key_service(&settings.keys, &app.ctx).await?;
        let (region, domain) = (&settings.region, &settings.peers.trust_domain);
        let keys = SigningKeys::open(region, domain, &settings.signing, service.as_ref(), &app.ctx).await?;
        let (statement, checkpoint) = (keys.public.statement.to_string(), keys.public.checkpoint.to_string());
        app.out.answer(
            || json!({ "region": region, "statement_key": statement, "checkpoint_key": checkpoint }),
            || {
                text::fields(&[
                    ("region", region.to_string()),
                    ("statement_key", statement.clone()),
                    ("checkpoint_key", checkpoint.clone()),
                ])
            },
        )
    }
}
