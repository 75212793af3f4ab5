//! Passwords (P49): the rule a new one must meet, and Argon2id (RFC 9106) in the background threads.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use domicile_types::{Code, Ctx, Error, Result};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// KiB of memory, passes and lanes of a new hash: the OWASP password storage cheat sheet's floor for Argon2id.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// A hash may come with a record from another region: it must not make this region work without bound.
const MEMORY_KIB_MAX: u32 = 256 * 1_024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// The most bytes a password may have; no person reaches it.
const LONGEST: usize = 1_024;
/// How long a request waits for its turn before it is told to come back.
const QUEUE: Duration = Duration::from_secs(5);

const COMMON: &str = include_str!("password.common.txt");

/// A password as a person typed it: wiped when dropped, never shown.
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    /// Takes what a person typed.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when it is empty or absurdly long.
    pub(crate) fn new(typed: String, field: &'static str) -> Result<Self> {
        let typed = Zeroizing::new(typed);
        if typed.is_empty() || typed.len() > LONGEST {
            return Err(Error::new(Code::InvalidRequest).at(field));
        }
        Ok(Self(typed))
    }

    /// Whether it may become somebody's password: long enough, not known to be common, not a repetition
    /// or a run of neighbouring characters, and not the account's own address.
    ///
    /// # Errors
    /// [`Code::PasswordWeak`] naming the field.
    pub(crate) fn check(&self, minimum: usize, email: &str, field: &'static str) -> Result<()> {
        let folded = self.0.trim().to_lowercase();
        let long = self.0.chars().count() >= minimum && folded.chars().count() >= minimum;
        let name = email.split_once('@').map_or(email, |(local, _)| local);
        let own = folded == email || repeats(&folded, email) || repeats(&folded, name);
        if !long || own || common(&folded) || monotonous(&folded) {
            return Err(Error::new(Code::PasswordWeak).at(field));
        }
        Ok(())
    }
}

/// Whether `text` is nothing but `unit` over and over.
fn repeats(text: &str, unit: &str) -> bool {
    !unit.is_empty() && text.len().is_multiple_of(unit.len()) && text.split(unit).all(str::is_empty)
}

fn common(folded: &str) -> bool {
    let bare: String =
        folded.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_' | '.')).collect();
    let known = |text: &str| COMMON.lines().any(|line| line == text);
    known(folded) || known(&bare) || known(bare.trim_end_matches(['!', '?', '1']))
}

/// Few different characters, or mostly neighbours such as `abc` and `321`.
fn monotonous(folded: &str) -> bool {
    let chars: Vec<char> = folded.chars().collect();
    let mut distinct = chars.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let neighbours = chars.windows(2).filter(|pair| matches!(pair, [a, b] if neighbour(*a, *b))).count();
    distinct.len() < 5 || neighbours * 4 > chars.len() * 3
}

fn neighbour(a: char, b: char) -> bool {
    u32::from(a).abs_diff(u32::from(b)) <= 1
}

/// Hashes and verifies, a bounded number at a time: each takes 19 MiB and a core.
#[derive(Clone)]
pub(crate) struct Passwords {
    ctx: Ctx,
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// As many at a time as there are cores.
    pub(crate) fn new(ctx: Ctx) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { ctx, turns: Arc::new(Semaphore::new(cores)) }
    }

    /// The hash of a new password in PHC form, with its salt.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when too many wait already.
    pub(crate) async fn hash(&self, password: Password) -> Result<String> {
        let salt: [u8; 16] = self.ctx.random();
        self.work(move || {
            let hashed = hasher()?.hash_password_with_salt(password.0.as_bytes(), &salt);
            Ok(hashed.map_err(failed)?.to_string())
        })
        .await
    }

    /// Whether the password is the one behind `phc`. Without one (nobody has this address, or the
    /// account is not active) it does the same work and answers no, so that the time tells nothing.
    ///
    /// # Errors
    /// [`Code::Overloaded`] when too many wait already; [`Code::Internal`] when the hash is not one.
    pub(crate) async fn verify(&self, password: Password, phc: Option<String>) -> Result<bool> {
        self.work(move || match phc {
            Some(phc) => verify(&password, &phc),
            None => {
                let mut out = [0_u8; Params::DEFAULT_OUTPUT_LEN];
                hasher()?.hash_password_into(password.0.as_bytes(), &[0; 16], &mut out).map_err(failed)?;
                Ok(false)
            }
        })
        .await
    }

    /// Runs the work in a background thread; its turn ends with it, even if the caller has gone.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let busy = || Error::new(Code::Overloaded).at("sign-in").retry_after(Duration::from_secs(1));
        let turn = tokio::time::timeout(QUEUE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|error| busy().because(error))?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|error| Error::new(Code::Internal).because(error))?
    }
}

fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(failed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn verify(password: &Password, phc: &str) -> Result<bool> {
    let hash = PasswordHash::new(phc).map_err(failed)?;
    let params = Params::try_from(&hash).map_err(failed)?;
    let bounded =
        params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX;
    if !bounded || hash.algorithm != Algorithm::Argon2id.ident() {
        return Err(Error::new(Code::Internal).at("password hash"));
    }
    Ok(hasher()?.verify_password(password.0.as_bytes(), &hash).is_ok())
}

/// Neither the library's text nor the hash belongs in a log.
fn failed<E>(_: E) -> Error {
    Error::new(Code::Internal).at("password hash")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(password: &str) -> bool {
        Password::new(password.to_owned(), "password")
            .unwrap()
            .check(15, "ana.lima@example.org", "password")
            .is_err()
    }

    /// P49: at least 15 characters, and no known password.
    #[test]
    fn the_rule_refuses_what_is_short_or_common() {
        for password in [
            "short",
            "fourteen chars",
            "passwordpassword",
            "PasswordPassword",
            "password-password",
            "correct horse battery staple",
            "aaaaaaaaaaaaaaaaaaaa",
            "12345678901234567890",
            "abcdefghijklmnopq",
            "ANA.Lima@example.org",
            "ana.limaana.lima",
            "               ab",
        ] {
            assert!(weak(password), "{password} was accepted");
        }
        for password in ["violet harbour tram 41", "lärm im treppenhaus um acht", "kX9-sunlit-orbit-2"] {
            assert!(!weak(password), "{password} was refused");
        }
    }

    #[test]
    fn the_list_is_in_the_form_it_is_compared_in() {
        let mut seen = std::collections::BTreeSet::new();
        for line in COMMON.lines() {
            assert_eq!(line, line.trim().to_lowercase());
            assert!(line.chars().count() >= 13, "{line} is refused for its length anyway");
            assert!(seen.insert(line), "{line} stands twice");
        }
    }

    #[tokio::test]
    async fn a_hash_verifies_and_names_its_parameters() {
        let passwords = Passwords::new(Ctx::system());
        let typed = || Password::new("violet harbour tram 41".to_owned(), "password").unwrap();
        let other = || Password::new("violet harbour tram 42".to_owned(), "password").unwrap();
        let phc = passwords.hash(typed()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(passwords.verify(typed(), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify(other(), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify(typed(), None).await.unwrap());
        assert_ne!(phc, passwords.hash(typed()).await.unwrap(), "every hash has its own salt");
    }

    #[tokio::test]
    async fn a_hash_from_elsewhere_cannot_ask_for_endless_work() {
        let passwords = Passwords::new(Ctx::system());
        let typed = || Password::new("violet harbour tram 41".to_owned(), "password").unwrap();
        let phc = passwords.hash(typed()).await.unwrap();
        for greedy in
            [phc.replace("m=19456", "m=4000000"), phc.replace("t=2", "t=4000000"), "nonsense".to_owned()]
        {
            let answer = passwords.verify(typed(), Some(greedy)).await;
            assert_eq!(answer.unwrap_err().code(), Code::Internal);
        }
    }
}
