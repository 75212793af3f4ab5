//! What people type as names and addresses, checked before it is sealed.

use domicile_types::{Code, Error, Phi, Result};

/// The longest name, in characters.
const NAME: usize = 120;
/// The longest address, in bytes (RFC 5321 §4.5.3.1: 64 for the local part, 255 for the domain, and the @).
const ADDRESS: usize = 320;

/// A person's or practice's name: one line of ordinary text. Markup is kept as it is and escaped by
/// whoever shows it; what would forge a log line or reverse the text around it is refused.
///
/// # Errors
/// [`Code::InvalidRequest`] naming the field.
pub(crate) fn name(typed: &str, field: &'static str) -> Result<Phi<String>> {
    let name = typed.trim();
    let fits = !name.is_empty() && name.chars().count() <= NAME && !name.chars().any(hidden);
    if fits { Ok(Phi::new(name.to_owned())) } else { Err(invalid(field)) }
}

/// An e-mail address in the one form that is indexed, sealed and compared: trimmed and lower-case.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Email(Phi<String>);

impl Email {
    /// Takes what a person typed. Whether mail arrives there is not for this region to know.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] naming the field.
    pub(crate) fn new(typed: &str, field: &'static str) -> Result<Self> {
        let address = typed.trim().to_lowercase();
        let parts = address.split_once('@');
        let fits = address.len() <= ADDRESS
            && parts.is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && !domain.contains('@')
            })
            && !address.chars().any(|c| c.is_whitespace() || hidden(c));
        if fits { Ok(Self(Phi::new(address))) } else { Err(invalid(field)) }
    }

    /// The address.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Control characters, line separators, and marks that hide or change the direction of the text.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

fn invalid(field: &'static str) -> Error {
    Error::new(Code::InvalidRequest).at(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_of_visible_text() {
        for good in ["Ana", "  Zoë O’Brien-Søren ", "李小龍", "<b>Bobby</b>"] {
            assert!(name(good, "name").is_ok(), "{good}");
        }
        for bad in ["", "   ", "a\r\nb", "nul\0", "rtl\u{202e}cod", "zero\u{200b}width", &"x".repeat(121)] {
            assert!(name(bad, "name").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_has_one_form() {
        let address = |typed| Email::new(typed, "email").map(|email| email.expose().to_owned());
        assert_eq!(address("  Ana.Lima@Example.ORG ").unwrap(), "ana.lima@example.org");
        for bad in
            ["", "ana", "@example.org", "ana@", "a@b@c", "a b@c", "a\r\n@c", "a\0@c", &"a@".repeat(200)]
        {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }
}
