//! What the demonstration's scenes share: the deployment, the screen, the list of what was checked.

use std::sync::Mutex;

use domicile_cli::client::answer;
use domicile_cli::failure::{Failure, Result};
use domicile_cli::{App, Client};
use domicile_proto::identity::v1::{ActivateAccountRequest, SignInRequest};
use domicile_types::{Error, RegionId};

use crate::up::{Deployment, FirstAccounts, password};

/// The demonstration's stage.
pub(super) struct Stage<'a> {
    pub(super) app: &'a App,
    pub(super) deployment: &'a Deployment,
    /// Where the record begins.
    pub(super) source: RegionId,
    /// Where it goes.
    pub(super) destination: RegionId,
    checks: Mutex<Checks>,
}

/// What was checked, and whether it held.
pub(super) type Checks = Vec<(String, bool)>;

/// Somebody's sign-in.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) email: String,
    pub(super) password: String,
}

impl<'a> Stage<'a> {
    pub(super) fn new(app: &'a App, deployment: &'a Deployment) -> Result<Self> {
        let region = |name| RegionId::new(name).map_err(|cause| Failure::Usage(cause.to_string()));
        let (source, destination) = (region("eu")?, region("ca")?);
        Ok(Self { app, deployment, source, destination, checks: Mutex::default() })
    }

    /// Begins a part of the story.
    pub(super) fn heading(&self, text: &str) -> Result<()> {
        self.app
            .out
            .text(&format!("\n── {text} {}", "─".repeat(76_usize.saturating_sub(text.chars().count()))))
    }

    /// Says something.
    pub(super) fn say(&self, text: &str) -> Result<()> {
        self.app.out.text(text)
    }

    /// Notes whether something held; a check that fails is shown and fails the demonstration.
    pub(super) fn check(&self, held: bool, what: impl Into<String>) -> Result<()> {
        let what = what.into();
        show_check(self.app, held, &what)?;
        self.checks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((what, held));
        Ok(())
    }

    /// Every check and whether it held.
    pub(super) fn into_checks(self) -> Checks {
        self.checks.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A connection to a region, signed in as nobody.
    pub(super) fn anonymous(&self, region: &RegionId) -> Result<Client> {
        Ok(Client::new(&self.deployment.place(region)?)?)
    }

    /// The first accounts of a region.
    pub(super) fn accounts(&self, region: &RegionId) -> Result<&FirstAccounts> {
        self.deployment.accounts(region)
    }

    /// A fresh password.
    pub(super) fn password(&self) -> String {
        password(&self.app.ctx)
    }

    /// Signs somebody in.
    pub(super) async fn sign_in(&self, region: &RegionId, login: &Login) -> Result<Client> {
        Ok(sign_in(&self.anonymous(region)?, login).await?)
    }

    /// Signs the region's operator in.
    pub(super) async fn operator(&self, region: &RegionId) -> Result<Client> {
        let account = &self.accounts(region)?.operator;
        self.sign_in(region, &Login { email: account.email.clone(), password: account.password.clone() })
            .await
    }

    /// Signs the region's compliance officer in.
    pub(super) async fn compliance(&self, region: &RegionId) -> Result<Client> {
        let account = &self.accounts(region)?.compliance;
        self.sign_in(region, &Login { email: account.email.clone(), password: account.password.clone() })
            .await
    }

    /// Sets an invited person's first password and signs them in.
    pub(super) async fn activate(&self, region: &RegionId, code: String, login: &Login) -> Result<Client> {
        let client = self.anonymous(region)?;
        let request = ActivateAccountRequest { code, password: login.password.clone() };
        answer(client.identity().activate_account(request)).await?;
        Ok(sign_in(&client, login).await?)
    }
}

/// Signs somebody in on a connection.
pub(super) async fn sign_in(client: &Client, login: &Login) -> std::result::Result<Client, Error> {
    let Login { email, password } = login.clone();
    let response = answer(client.identity().sign_in(SignInRequest { email, password })).await?;
    client.with_token(&response.token)
}

/// Shows a check.
pub(super) fn show_check(app: &App, held: bool, what: &str) -> Result<()> {
    let mark = if held { "✓" } else { "✗ NOT SO:" };
    app.out.text(&format!("  {mark} {what}"))
}
