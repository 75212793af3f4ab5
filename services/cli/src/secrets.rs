//! Passwords and invitation codes: from a prompt, standard input or the environment; never from the
//! command line, where every process of the machine can read them.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::Args;

use crate::failure::{Failure, Result};

/// How a password comes in.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct PasswordArgs {
    /// Read secrets from standard input, one a line, instead of asking.
    #[arg(long)]
    pub password_stdin: bool,
}

impl PasswordArgs {
    /// Asks for a secret: from standard input with `--password-stdin`, else from the environment
    /// variable, else from the terminal without echo.
    ///
    /// # Errors
    /// [`Failure::Usage`] when there is no way to ask.
    pub fn ask(&self, question: &str, variable: &str) -> Result<String> {
        if self.password_stdin {
            return line();
        }
        if let Ok(value) = std::env::var(variable)
            && !value.is_empty()
        {
            return Ok(value);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "no terminal to ask for the {question}: use --password-stdin or {variable}"
            )));
        }
        rpassword::prompt_password(format!("{question}: "))
            .map_err(|cause| Failure::local(format!("terminal: {}", cause.kind()), "Use --password-stdin."))
    }

    /// Asks for a new password, twice on a terminal.
    ///
    /// # Errors
    /// [`Failure::Usage`] when there is no way to ask, or the two differ.
    pub fn ask_new(&self, question: &str, variable: &str) -> Result<String> {
        let first = self.ask(question, variable)?;
        let asked = !self.password_stdin && std::env::var_os(variable).is_none();
        if asked && self.ask(&format!("{question} again"), variable)? != first {
            return Err(Failure::Usage("the two passwords differ".to_owned()));
        }
        Ok(first)
    }
}

fn line() -> Result<String> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    let read =
        read.map_err(|cause| Failure::local(format!("standard input: {}", cause.kind()), "Try again."))?;
    if read == 0 {
        return Err(Failure::Usage("standard input ended before the secret came".to_owned()));
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
