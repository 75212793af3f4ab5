//! Named points at which a test ends this process, as a machine that fails would. Absent from a release
//! build: there `Ctx::faults` never calls anything, and this reads no variable.

use domicile_types::Faults;

/// Faults by `DOMICILE_FAULTS`: names of points, separated by commas. The process ends at the first one
/// it reaches, without unwinding; at one written `panic:name` it panics instead, each time.
#[cfg(debug_assertions)]
pub(crate) fn from_environment() -> Faults {
    match std::env::var("DOMICILE_FAULTS") {
        Ok(points) if !points.is_empty() => Faults::with(std::sync::Arc::new(Ending(points))),
        _ => Faults::none(),
    }
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
