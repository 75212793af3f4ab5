//! What a panic tells: where, never what. Its message may hold what a person typed (P8).

use domicile_cli::output::note;

/// From here on a panic anywhere says its place in the code and nothing else.
pub(crate) fn say_only_where() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(%place, "a task ended by a panic");
        note(&format!("a fault of this program at {place}; please report it"));
    }));
}
