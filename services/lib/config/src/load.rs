//! One file, the environment over it, and errors that name the key.

use std::path::Path;

use config::{Config, Environment, File, FileFormat};
use domicile_types::{Code, Error, Result};
use serde::de::DeserializeOwned;

/// How the place of what is no TOML begins.
const LINE: &str = "line ";

/// The folder that holds a settings file.
pub(crate) fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads `file`, lays the environment (`DOMICILE__SECTION__KEY`) over it, and parses the whole.
/// `environment` replaces the process's own in tests and when one process prepares another.
pub(crate) fn layered<T: DeserializeOwned>(
    file: &Path,
    environment: Option<Vec<(String, String)>>,
) -> Result<T> {
    let text = std::fs::read_to_string(file).map_err(|cause| {
        Error::new(Code::ConfigurationMissing).at(file.display().to_string()).because(cause)
    })?;
    // A place that is no key says nothing without its file.
    settings(&text, environment).map_err(|error| match error.place() {
        Some(place) if place.starts_with(LINE) => {
            let place = format!("{}, {place}", file.display());
            error.at(place)
        }
        _ => error,
    })
}

/// Parses the text of a settings file and the environment over it.
pub(crate) fn settings<T: DeserializeOwned>(
    text: &str,
    environment: Option<Vec<(String, String)>>,
) -> Result<T> {
    let source = Environment::with_prefix("DOMICILE")
        .prefix_separator("__")
        .separator("__")
        .source(environment.map(|pairs| pairs.into_iter().collect()));
    table(text)?;
    let config =
        Config::builder().add_source(File::from_str(text, FileFormat::Toml)).add_source(source).build();
    // The cause's text may quote the file, and with it a secret: it goes no further.
    let config = config.map_err(|_| Error::new(Code::ConfigurationInvalid).at("configuration file"))?;
    parse(config)
}

/// Parses one TOML text.
pub(crate) fn toml<T: DeserializeOwned>(text: &str) -> Result<T> {
    parse(table(text)?)
}

/// A text's table; what is no TOML is told by its line alone, because its words may hold a secret.
fn table(text: &str) -> Result<toml::Table> {
    text.parse().map_err(|wrong: toml::de::Error| {
        let at = wrong.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        Error::new(Code::ConfigurationInvalid).at(format!("{LINE}{line}: not TOML"))
    })
}

/// Parses the environment (`DOMICILE__SECTION__KEY`) alone.
pub(crate) fn environment<T: DeserializeOwned>(environment: Option<Vec<(String, String)>>) -> Result<T> {
    let source = Environment::with_prefix("DOMICILE")
        .prefix_separator("__")
        .separator("__")
        .source(environment.map(|pairs| pairs.into_iter().collect()));
    let config = Config::builder().add_source(source).build();
    parse(config.map_err(|_| Error::new(Code::ConfigurationInvalid).at("environment"))?)
}

fn parse<'de, T, D>(from: D) -> Result<T>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de>,
    D::Error: std::fmt::Display,
{
    serde_path_to_error::deserialize(from)
        .map_err(|error| explain(&error.path().to_string(), &error.inner().to_string()))
}

/// Turns serde's message into a code and a key. Only names of keys are kept, never a value.
fn explain(path: &str, message: &str) -> Error {
    let quoted = |after: &str| message.split(after).nth(1).and_then(|rest| rest.split('`').next());
    let under = |key: &str| match path {
        "." | "" => key.to_owned(),
        path if path == key || path.ends_with(&format!(".{key}")) => path.to_owned(),
        path => format!("{path}.{key}"),
    };
    if let Some(key) = quoted("unknown field `") {
        return Error::new(Code::ConfigurationUnknownKey).at(under(key));
    }
    if let Some(key) = quoted("missing field `").or_else(|| quoted("missing configuration field \"")) {
        // One of the two messages has the path in it already, the other has not.
        let key = key.trim_end_matches('"').rsplit(['.', ']']).next().unwrap_or_default();
        return Error::new(Code::ConfigurationMissing).at(under(key));
    }
    Error::new(Code::ConfigurationInvalid).at(path)
}
