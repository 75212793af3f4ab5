//! Sessions and accounts.

use clap::{Args, Subcommand};
use domicile_proto::identity::v1::{
    ActivateAccountRequest, ChangePasswordRequest, CreateClientRequest, CreatePractitionerRequest, Identity,
    ReauthenticateRequest, SignInRequest, SignInResponse, SignOutRequest, WhoAmIRequest,
};
use domicile_types::Code;
use serde_json::json;

use crate::app::App;
use crate::client::{Client, answer};
use crate::failure::Result;
use crate::secrets::PasswordArgs;
use crate::sessions::Session;
use crate::{json, text};

/// The environment variable that may hold the password.
const PASSWORD: &str = "DOMICILE_PASSWORD";
/// The environment variable that may hold the new password.
const NEW_PASSWORD: &str = "DOMICILE_NEW_PASSWORD";
/// The environment variable that may hold the invitation code.
const INVITATION: &str = "DOMICILE_INVITATION";

/// Who signs in.
#[derive(Args, Debug)]
#[command(after_help = "\
The password comes from a prompt, from DOMICILE_PASSWORD, or with --password-stdin from standard input.
The session is kept in a file only you can read, per region and --profile.

Examples:
  domicile --region eu sign-in --email op@example.org
  domicile --region eu --profile clinic sign-in --email dr@example.org --password-stdin < password")]
pub struct SignInArgs {
    /// The e-mail address.
    #[arg(long)]
    email: String,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Accounts.
#[derive(Subcommand, Debug)]
pub enum AccountCommand {
    /// Set the first password of an invited account, then sign in.
    Activate(ActivateArgs),
}

/// How invitation code and password come in.
#[derive(Args, Debug)]
#[command(after_help = "\
Asks for the invitation code, then for the new password. Scripts give them in DOMICILE_INVITATION and
DOMICILE_NEW_PASSWORD, or on two lines of standard input with --password-stdin.")]
pub struct ActivateArgs {
    #[command(flatten)]
    password: PasswordArgs,
}

/// Practitioners.
#[derive(Subcommand, Debug)]
pub enum PractitionerCommand {
    /// Create a practitioner of your practice; prints the invitation code once.
    Create {
        /// The e-mail address.
        #[arg(long)]
        email: String,
        /// The name.
        #[arg(long)]
        name: String,
    },
}

/// Clients.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Create a client with a record; prints the invitation code once.
    Create {
        /// The e-mail address.
        #[arg(long)]
        email: String,
        /// The name.
        #[arg(long)]
        name: String,
        /// The practitioner whose caseload it joins; your own when left out.
        #[arg(long, value_name = "ACCOUNT")]
        practitioner: Option<String>,
        /// The client has chosen this region, with the laws compared.
        #[arg(long)]
        region_chosen: bool,
    },
}

/// Opens a session and keeps it.
pub(super) async fn sign_in(app: &App, args: SignInArgs) -> Result<()> {
    let place = app.place()?;
    let password = args.password.ask("Password", PASSWORD)?;
    let request = SignInRequest { email: args.email, password };
    let response = answer(app.anonymous()?.identity().sign_in(request)).await?;
    let identity = response.identity.clone().unwrap_or_default();
    app.sessions()?.set(&place.name, &app.global.profile, Some(session(&response, &identity)))?;
    let until = response.ends_at_micros;
    app.out.answer(
        || json!({ "identity": identity_json(&identity), "ends_at_micros": until.to_string() }),
        || format!("{}\nThe session ends {} at the latest.", identity_text(&identity), text::time(until)),
    )
}

fn session(response: &SignInResponse, identity: &Identity) -> Session {
    Session {
        token: response.token.clone(),
        role: identity.role.clone(),
        account_id: identity.account_id.clone(),
        subject_id: identity.subject_id.clone(),
        ends_at_micros: response.ends_at_micros,
    }
}

/// Ends the session here and at the region. A session that has ended there is forgotten here too.
pub(super) async fn sign_out(app: &App) -> Result<()> {
    let place = app.place()?;
    let ended = match app.client() {
        Ok(client) => answer(client.identity().sign_out(SignOutRequest {})).await.map_err(Into::into),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(_) => {}
        // There is nothing to end any more: the session went with its time, or with the record.
        Err(failure) if matches!(failure.code(), Some(Code::Unauthenticated | Code::RecordMoved)) => {}
        Err(failure) => return Err(failure),
    }
    app.sessions()?.set(&place.name, &app.global.profile, None)?;
    app.out.answer(|| json!({ "signed_out": true }), || "Signed out.".to_owned())
}

/// Shows who is signed in.
pub(super) async fn who_am_i(app: &App) -> Result<()> {
    let response = answer(app.client()?.identity().who_am_i(WhoAmIRequest {})).await?;
    let identity = response.identity.unwrap_or_default();
    app.out.answer(|| identity_json(&identity), || identity_text(&identity))
}

fn identity_json(identity: &Identity) -> serde_json::Value {
    json::of("domicile.identity.v1.Identity", identity)
}

fn identity_text(identity: &Identity) -> String {
    text::fields(&[
        ("region", identity.region.clone()),
        ("role", identity.role.clone()),
        ("account", identity.account_id.clone()),
        ("record", identity.subject_id.clone()),
        ("practice", identity.practice_id.clone()),
    ])
}

/// Changes the password.
pub(super) async fn password(app: &App, args: PasswordArgs) -> Result<()> {
    let client = app.client()?;
    let old_password = args.ask("Present password", PASSWORD)?;
    let new_password = args.ask_new("New password", NEW_PASSWORD)?;
    let request = ChangePasswordRequest { old_password, new_password };
    answer(client.identity().change_password(request)).await?;
    let said = "The password is changed. Every other session of this account has ended.";
    app.out.answer(|| json!({ "changed": true }), || said.to_owned())
}

/// Proves the password again, for a step that needs it fresh.
pub(super) async fn reauthenticate(client: &Client, args: PasswordArgs) -> Result<()> {
    let password = args.ask("Password", PASSWORD)?;
    answer(client.identity().reauthenticate(ReauthenticateRequest { password })).await?;
    Ok(())
}

impl AccountCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let Self::Activate(args) = self;
        let client = app.anonymous()?;
        let code = args.password.ask("Invitation code", INVITATION)?;
        let password = args.password.ask_new("New password", NEW_PASSWORD)?;
        let response =
            answer(client.identity().activate_account(ActivateAccountRequest { code, password })).await?;
        app.out.answer(
            || json::of("domicile.identity.v1.ActivateAccountResponse", &response),
            || format!("Account {} is active. Sign in next.", response.account_id),
        )
    }
}

impl PractitionerCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let Self::Create { email, name } = self;
        let request = CreatePractitionerRequest { email, name };
        let response = answer(app.client()?.identity().create_practitioner(request)).await?;
        app.out.answer(
            || json::of("domicile.identity.v1.CreatePractitionerResponse", &response),
            || {
                text::fields(&[
                    ("account", response.account_id.clone()),
                    ("invitation", response.invitation.clone()),
                ])
            },
        )
    }
}

impl ClientCommand {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let Self::Create { email, name, practitioner, region_chosen } = self;
        let request = CreateClientRequest {
            email,
            name,
            practitioner_id: practitioner.unwrap_or_default(),
            region_chosen_by_client: region_chosen,
        };
        let response = answer(app.client()?.identity().create_client(request)).await?;
        app.out.answer(
            || json::of("domicile.identity.v1.CreateClientResponse", &response),
            || {
                text::fields(&[
                    ("account", response.account_id.clone()),
                    ("record", response.subject_id.clone()),
                    ("invitation", response.invitation.clone()),
                ])
            },
        )
    }
}
