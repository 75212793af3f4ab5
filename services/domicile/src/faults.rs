//! Named points at which a test ends this process, as a machine that fails would, or holds it still while
//! it ends another one. Absent from a release build: there `Ctx::faults` never calls anything, and this
//! reads no variable.

use domicile_types::Faults;

/// Faults by `DOMICILE_FAULTS`, which is one of
///
/// - names of points, separated by commas: the process ends at the first one it reaches, without
///   unwinding; at one written `panic:name` it panics instead, each time;
/// - `orders:FOLDER`: while the process runs, a test puts orders there (`Orders`).
#[cfg(debug_assertions)]
pub(crate) fn from_environment() -> Faults {
    let plan: std::sync::Arc<dyn domicile_types::ctx::FaultPlan> = match std::env::var("DOMICILE_FAULTS") {
        Ok(given) => match given.strip_prefix("orders:") {
            Some(folder) => std::sync::Arc::new(orders::Orders::of(folder.into())),
            None if given.is_empty() => return Faults::none(),
            None => std::sync::Arc::new(Ending(given)),
        },
        Err(_) => return Faults::none(),
    };
    Faults::with(plan)
}

/// No faults.
#[cfg(not(debug_assertions))]
pub(crate) const fn from_environment() -> Faults {
    Faults::none()
}

#[cfg(debug_assertions)]
struct Ending(String);

#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "a test asks for a panic; a release build has none of this")]
impl domicile_types::ctx::FaultPlan for Ending {
    fn reached(&self, point: &'static str) {
        if self.0.split(',').any(|named| named.strip_prefix("panic:") == Some(point)) {
            std::panic::panic_any(point);
        }
        if self.0.split(',').any(|named| named == point) {
            tracing::warn!(point, "a test ends the process here");
            std::process::exit(137);
        }
    }
}

#[cfg(debug_assertions)]
mod orders {
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use domicile_types::When;
    use domicile_types::ctx::FaultPlan;
    use tokio::time::Instant;

    /// How often a process that stands still looks whether it may go on.
    const LOOK: Duration = Duration::from_millis(2);
    /// How long it stands still at most.
    const LONGEST: Duration = Duration::from_secs(180);

    /// A folder through which a test steers a process that runs.
    ///
    /// - `orders` names points around effects (`transfer_release.before`), one on a line. The process that
    ///   reaches one takes the file away, notes the point in `reached`, and stands still at that point
    ///   until somebody makes the file `go`, which it takes away too.
    /// - `seen`, if it is there, gets the name of each point that is reached, once.
    pub(super) struct Orders {
        folder: PathBuf,
        seen: Mutex<BTreeSet<String>>,
    }

    impl Orders {
        pub(super) fn of(folder: PathBuf) -> Self {
            Self { folder, seen: Mutex::default() }
        }

        fn note(&self, point: &str) -> std::io::Result<()> {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(self.folder.join("seen")) else {
                return Ok(());
            };
            if file.metadata()?.len() == 0 {
                // A new list.
                seen.clear();
            }
            if seen.insert(point.to_owned()) {
                file.write_all(format!("{point}\n").as_bytes())
            } else {
                Ok(())
            }
        }

        /// Whether this process, and no other task of it, is to stand still here.
        fn ordered(&self, point: &str) -> bool {
            let orders = self.folder.join("orders");
            let Ok(named) = std::fs::read_to_string(&orders) else { return false };
            named.lines().any(|named| named == point)
                && std::fs::rename(&orders, self.folder.join("taken")).is_ok()
        }

        /// Until the test says `go`; not for ever, should it be gone.
        async fn stand_still(&self, point: &str) -> std::io::Result<()> {
            tracing::warn!(point, "a test holds the process here");
            std::fs::write(self.folder.join("reached"), point)?;
            let until = Instant::now() + LONGEST;
            while std::fs::remove_file(self.folder.join("go")).is_err() && Instant::now() < until {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        }
    }

    impl FaultPlan for Orders {
        fn reached(&self, _: &'static str) {}

        fn around(&self, effect: &str, when: When) {
            let point = format!("{effect}.{}", when.as_str());
            let held = self.note(&point).and_then(|()| {
                if self.ordered(&point) {
                    let here = tokio::runtime::Handle::current();
                    tokio::task::block_in_place(|| here.block_on(self.stand_still(&point)))
                } else {
                    Ok(())
                }
            });
            if let Err(error) = held {
                tracing::warn!(point, kind = %error.kind(), "the orders of a test cannot be followed");
            }
        }
    }
}
