//! Commands as telemetry shows them: their names, and the transfer they are about.

use domicile_telemetry::trace::{self, Span};

use super::{Command, TransferCommand};

impl Command {
    /// A span around this command; in a transfer's own trace when it is about one.
    #[must_use]
    pub fn span(&self) -> Span {
        let (name, transfer) = match self {
            Self::Transfer(command) => command.about(),
            _ => ("command", None),
        };
        trace::command(name, transfer.and_then(|transfer| transfer.parse().ok()))
    }
}

impl TransferCommand {
    fn about(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Request { .. } => ("transfer-request", None),
            Self::Offer { transfer, .. } => ("transfer-offer", Some(transfer)),
            Self::Consent(args) => ("transfer-consent", Some(args.transfer())),
            Self::Withdraw { transfer } => ("transfer-withdraw", Some(transfer)),
            Self::Status { transfer, .. } => ("transfer-status", Some(transfer)),
            Self::List { .. } => ("transfer-list", None),
            Self::Receipt { transfer, .. } => ("transfer-receipt", Some(transfer)),
        }
    }
}
