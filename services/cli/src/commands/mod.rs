//! The commands, one file a subject.

mod access;
mod account;
pub mod audit;
mod fhir;
mod hold;
mod item;
mod object;
mod operate;
mod practice;
mod report;
mod span;
pub mod transfer;
pub mod verify;

pub use access::AccessCommand;
pub use account::{AccountCommand, ActivateArgs, ClientCommand, PractitionerCommand, SignInArgs};
pub use audit::AuditCommand;
pub use fhir::FhirCommand;
pub use hold::HoldCommand;
pub use item::{ItemCommand, RecordCommand};
pub use object::ObjectCommand;
pub use operate::TransfersCommand;
pub use practice::PracticeCommand;
pub use transfer::{ConsentCommand, TransferCommand};

use clap::Subcommand;

use crate::app::App;
use crate::failure::Result;
use crate::secrets::PasswordArgs;

/// What people and scripts do with regions.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Open a session.
    SignIn(SignInArgs),
    /// End the session.
    SignOut,
    /// Show who is signed in.
    Whoami,
    /// Change the password; every other session ends.
    Password(PasswordArgs),
    /// Set the first password of an invited account.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Practices: create, sign the agreement, enrol in other regions.
    #[command(subcommand)]
    Practice(PracticeCommand),
    /// Practitioners of a practice.
    #[command(subcommand)]
    Practitioner(PractitionerCommand),
    /// Clients of a caseload.
    #[command(subcommand)]
    Client(ClientCommand),
    /// Items of a record.
    #[command(subcommand)]
    Item(ItemCommand),
    /// A record as a whole.
    #[command(subcommand)]
    Record(RecordCommand),
    /// Large content: attachments and voice notes.
    #[command(subcommand)]
    Object(ObjectCommand),
    /// FHIR R4 bundles in and out.
    #[command(subcommand)]
    Fhir(FhirCommand),
    /// Who may see a record.
    #[command(subcommand)]
    Access(AccessCommand),
    /// Legal holds.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Move your record to another region.
    #[command(subcommand)]
    Transfer(TransferCommand),
    /// Your consents.
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// For operators: every transfer of a region.
    #[command(subcommand)]
    Transfers(TransfersCommand),
    /// For operators: whether the regions answer.
    Health,
    /// The audit log: look, export, verify offline.
    #[command(subcommand)]
    Audit(AuditCommand),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it did not succeed; the failure knows its exit code.
    pub async fn run(self, app: &App) -> Result<()> {
        match self {
            Self::SignIn(args) => account::sign_in(app, args).await,
            Self::SignOut => account::sign_out(app).await,
            Self::Whoami => account::who_am_i(app).await,
            Self::Password(args) => account::password(app, args).await,
            Self::Account(command) => command.run(app).await,
            Self::Practice(command) => command.run(app).await,
            Self::Practitioner(command) => command.run(app).await,
            Self::Client(command) => command.run(app).await,
            Self::Item(command) => command.run(app).await,
            Self::Record(command) => command.run(app).await,
            Self::Object(command) => command.run(app).await,
            Self::Fhir(command) => command.run(app).await,
            Self::Access(command) => command.run(app).await,
            Self::Hold(command) => command.run(app).await,
            Self::Transfer(command) => command.run(app).await,
            Self::Consent(command) => command.run(app).await,
            Self::Transfers(command) => command.run(app).await,
            Self::Health => operate::health(app).await,
            Self::Audit(command) => command.run(app).await,
        }
    }
}
