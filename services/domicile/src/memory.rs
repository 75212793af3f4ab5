//! A process's memory holds keys and records in clear while it works with them: it never becomes a file.

use domicile_cli::output::note;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From here on this process leaves no core, whatever ends it and whatever the machine's core pattern
/// is, and no other process of its user reads its memory (P8).
pub(crate) fn keep_to_itself() {
    let limited = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    for refused in [limited, hidden].into_iter().filter_map(Result::err) {
        note(&format!("this process cannot be kept from leaving a core: {refused}"));
    }
}
