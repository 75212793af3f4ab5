//! The entry point of each fuzz target: bytes from outside into one decoder of the product. Each says whether
//! the bytes were taken, and panics where a decoder takes what it must not. `tests/fuzz` gives them what
//! libFuzzer makes up; the ordinary run gives them the corpora that are kept.

mod evidence;
mod people;
mod travel;

pub use self::evidence::log_key;

/// A target: its name and its entry point, which answers whether the bytes were taken.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub const TARGETS: &[Target] = &[
    ("auditor_policy", people::auditor_policy),
    ("bundle", evidence::bundle),
    ("checkpoint", evidence::checkpoint),
    ("control_rows", travel::control_rows),
    ("enrolment", evidence::enrolment),
    ("entry", evidence::entry),
    ("fhir", people::fhir),
    ("key_release", travel::key_release),
    ("proof", evidence::proof),
    ("region_policy", people::region_policy),
    ("request", people::request),
    ("settings", people::settings),
    ("statement", evidence::statement),
    ("travel_header", travel::header),
    ("travel_object", travel::object),
    ("travel_page", travel::page),
];

/// Gives bytes to a target.
///
/// # Panics
/// When there is no such target, or its decoder has a fault.
pub fn run(name: &str, data: &[u8]) -> bool {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    target(data)
}

/// Messages one after the other, each behind its length; nothing where one is none.
fn messages<M: prost::Message + Default>(mut data: &[u8]) -> Option<Vec<M>> {
    let mut all = Vec::new();
    while !data.is_empty() && all.len() < 64 {
        all.push(M::decode_length_delimited(&mut data).ok()?);
    }
    Some(all)
}
