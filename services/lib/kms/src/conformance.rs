//! Suites that every key service and every store of wrapped keys must pass.

mod key_service;
mod wrapped_keys;

use domicile_types::{Code, Result};

pub use self::key_service::{key_service, key_service_rows};
pub use self::wrapped_keys::wrapped_keys;

/// What a check found wrong.
pub type Verdict = Result<(), String>;

fn holds(true_: bool, what: &str) -> Verdict {
    if true_ { Ok(()) } else { Err(what.to_owned()) }
}

/// The value of something that must succeed.
fn given<T>(result: Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error:?}"))
}

fn same<T: PartialEq>(result: &Result<T>, expected: &T) -> bool {
    result.as_ref().is_ok_and(|value| value == expected)
}

fn fails<T>(result: &Result<T>, code: Code) -> bool {
    result.as_ref().is_err_and(|error| error.code() == code)
}
