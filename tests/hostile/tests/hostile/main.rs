//! Every byte of what travels and of what is stored, made wrong: refused with its code, and nothing is taken.

#![cfg(test)]
#![expect(clippy::print_stdout, reason = "the tally is for people")]

mod corpora;
mod keys;
mod release;
mod staged;
mod statements;
mod stored;
mod travelling;

use domicile_hostile::damage::Tally;

/// Prints what was counted; `--nocapture` shows it (docs/reliability.md, "Integrity").
fn print(tally: &Tally, at_least: usize) {
    assert!(tally.total() >= at_least, "only {} positions", tally.total());
    print!("{}", tally.table());
}
