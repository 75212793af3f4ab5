//! The composition root: puts the services of a region together, starts roles, whole deployments on
//! one machine and the demonstration, and hands everything else to the command line.

mod compose;
mod demo;
mod faults;
mod memory;
mod panics;
mod roles;
mod signing;
mod up;

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use domicile_cli::failure::Failure;
use domicile_cli::{App, Command, EXIT_CODES, Global, output};
use domicile_types::Ctx;
use tracing::Instrument as _;

/// The release and the commit it was built from, which whoever builds a release names in `DOMICILE_COMMIT`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("DOMICILE_COMMIT").filter(|commit| !commit.is_empty());
    let source = commit.map_or_else(|| "no commit named".to_owned(), |commit| format!("commit {commit}"));
    format!("{} ({source})", env!("CARGO_PKG_VERSION"))
});

/// Keeps a therapy client's record in the region the client chose, and moves it with consent.
#[derive(Parser, Debug)]
#[command(
    name = "domicile",
    version = VERSION.as_str(),
    after_help = EXIT_CODES,
    after_long_help = concat!(
        "Try it: `domicile demo` shows a record moving from the EU to Canada.\n",
        "Run it: `domicile up` starts every region on this machine and says how to sign in.\n\n",
        "Exit codes:\n",
        "  0  done\n  1  something else went wrong\n  2  the command line or the request is wrong\n",
        "  3  not signed in, or not allowed\n  4  no such thing (or not for you)\n",
        "  5  refused in the present state\n  6  cannot now, the same command may succeed later\n",
        "  7  content failed its integrity check\n",
        "`domicile audit verify` has its own codes; see its help."
    )
)]
struct Domicile {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    #[command(flatten)]
    Role(roles::Role),
    #[command(flatten)]
    Command(Command),
}

/// Tells what is wrong with the command line: help and version as they are, an error as JSON where JSON was asked for.
fn misread(wrong: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !wrong.use_stderr() || !json {
        wrong.exit();
    }
    let said = wrong.render().to_string();
    let lines = said.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
    let what = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what).to_owned();
    ExitCode::from(output::report(&Failure::Usage(what), true))
}

/// Runs the command line of this process and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    memory::keep_to_itself();
    panics::say_only_where();
    let domicile = match Domicile::try_parse() {
        Ok(domicile) => domicile,
        Err(wrong) => return misread(&wrong),
    };
    let json = domicile.global.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => {
            output::note(&format!("error: no runtime: {}", cause.kind()));
            return ExitCode::FAILURE;
        }
    };
    let app = App::new(domicile.global, Ctx::system());
    let done = runtime.block_on(async {
        match domicile.action {
            Action::Role(role) => role.run(&app).await,
            Action::Command(command) => {
                let work = async {
                    let span = command.span();
                    command.run(&app).instrument(span).await
                };
                roles::telemetry::around(&app, work).await
            }
        }
    });
    // Blocking reads of standard input never return by themselves.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(output::report(&failure, json)),
    }
}
