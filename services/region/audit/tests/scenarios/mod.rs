//! What the audit service must do on either database: the tests of this crate run it on SQLite, those
//! of the whole on PostgreSQL too.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "shared by test binaries"
)]

pub mod faults;
pub mod reading;
pub mod sequencing;
pub mod site;

/// Names every scenario: expands to one test each, of the given body.
#[macro_export]
macro_rules! audit_scenarios {
    ($run:ident) => {
        $run!(sequencing, entries_are_in_the_tree_and_signed_without_being_asked);
        $run!(sequencing, a_demanded_checkpoint_does_not_wait_for_its_second);
        $run!(sequencing, an_event_stands_once_however_often_it_is_delivered);
        $run!(sequencing, statements_stand_in_the_order_of_their_lanes);
        $run!(sequencing, a_dead_writers_numbers_are_declared_lost);
        $run!(sequencing, two_sequencers_make_one_log);
        $run!(sequencing, a_stale_token_writes_nothing);
        $run!(sequencing, the_log_goes_on_after_a_restart);
        $run!(faults, a_log_that_was_set_back_is_not_signed);
        $run!(faults, a_log_that_was_rewritten_is_not_signed);
        $run!(faults, a_log_without_its_signed_head_is_not_signed);
        $run!(faults, an_entry_of_another_log_stops_the_sequencer);
        $run!(faults, a_crash_at_every_point_loses_and_doubles_nothing);
        $run!(reading, a_client_reads_what_was_done_with_their_record);
        $run!(reading, entries_are_listed_by_index_and_by_transfer);
        $run!(reading, every_entry_has_its_proof);
        $run!(reading, a_closing_proof_convinces_the_other_region);
        $run!(reading, a_bundle_convinces_a_stranger);
        $run!(reading, a_reader_that_goes_away_ends_the_export);
        $run!(reading, the_service_answers_over_grpc);
    };
}
