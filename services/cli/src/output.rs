//! Standard output and standard error: one place that writes, so that a reader who goes away is a
//! clean end and the linted print macros are not needed.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::text;

/// Where a command writes its answer.
pub struct Output {
    json: bool,
}

impl Output {
    /// An output for people, or with `json` for programs: one JSON value an answer.
    #[must_use]
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress may be drawn on standard error.
    #[must_use]
    pub fn draws(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Writes an answer: the value for programs, or the text for people.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when nobody reads any more.
    pub fn answer(&self, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { self.write(&format!("{}\n", value())) } else { self.text(&text()) }
    }

    /// Writes text for people, with a final newline; nothing in JSON mode. Whatever somebody typed into it
    /// moves no cursor and turns no direction of writing.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when nobody reads any more.
    pub fn text(&self, text: &str) -> Result<()> {
        if self.json || text.is_empty() {
            return Ok(());
        }
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.write(&format!("{}{end}", text::safe(text)))
    }

    /// Writes bytes as they are: a download to standard output.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when nobody reads any more.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|cause| gone(&cause))
    }

    fn write(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }
}

fn gone(cause: &io::Error) -> Failure {
    match cause.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        kind => Failure::local(format!("standard output: {kind}"), "Check where the output goes."),
    }
}

/// Writes a line to standard error, fit for a terminal. When even that is impossible there is nobody left to tell.
pub fn note(text: &str) {
    let mut err = io::stderr().lock();
    writeln!(err, "{}", text::safe(text)).ok();
}

/// Tells a failure on standard error, as text or as JSON, and gives the exit code.
#[must_use]
pub fn report(failure: &Failure, json: bool) -> u8 {
    match failure.to_json() {
        Some(value) if json => note(&value.to_string()),
        Some(_) => note(&failure.to_string()),
        None => {}
    }
    failure.exit_code()
}
