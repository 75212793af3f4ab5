//! What the offline verifier must catch, each with its exit code.

mod common;

use common::{Log, Pair, TestKey, file, policy, transfer};
use domicile_evidence::bundle::Frame;
use domicile_evidence::event::EventType;
use domicile_evidence::keys::{Signer as _, VerifierKey};
use domicile_evidence::merkle::leaf_hash;
use domicile_evidence::policy::{LogKeys, Policy};
use domicile_evidence::report::{Finding, Verdict};
use domicile_evidence::statement::{Body, SignedStatement};
use domicile_evidence::verify::{Demands, SavedHead, VerifiedBundle, Verifier, compare, verify};
use domicile_types::time::Timestamp;
use std::time::Duration;

fn grown(count: usize) -> Log {
    let mut log = Log::new("eu", 10);
    log.fill(count / 2);
    log.checkpoint();
    log.fill(count - count / 2);
    log.checkpoint();
    log
}

fn check(log: &Log, bundle: &[u8]) -> VerifiedBundle {
    let policy = policy(&[log]);
    verify(bundle, Demands { policy: Some(&policy), ..Demands::default() })
}

fn worst(verified: &VerifiedBundle) -> (u8, Option<u64>) {
    let finding: Option<&Finding> = verified.report.findings.first();
    (verified.report.exit_code(), finding.and_then(|finding| finding.index))
}

#[test]
fn an_honest_log_is_proven_and_says_that_it_has_no_witnesses() {
    let log = grown(600);
    let verified = check(&log, &log.bundle());
    let report = &verified.report;
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.exit_code(), report.entries, report.signed_size, report.checkpoints),
        (0, 600, 600, 2)
    );
    assert_eq!((report.signed_quorum, report.proven_size), (Some(0), 0));
    let text = report.to_string();
    assert!(text.contains("quorum 0: the region has signed that it has no witnesses"), "{text}");
    assert!(text.contains("everything agrees"));
    let json = serde_json::to_string(report).expect("JSON");
    assert_eq!(&serde_json::from_str::<domicile_evidence::report::Report>(&json).expect("a report"), report);
}

#[test]
fn an_empty_log_is_fine() {
    let mut log = Log::new("eu", 10);
    log.checkpoint();
    assert_eq!(check(&log, &log.bundle()).report.findings, []);

    log.fill(3);
    log.checkpoint();
    let report = check(&log, &log.bundle()).report;
    assert_eq!((report.findings.as_slice(), report.checkpoints), (&[][..], 2), "each counts once");
}

#[test]
fn without_a_policy_the_report_says_that_nothing_is_pinned() {
    let log = grown(4);
    let verified = verify(&log.bundle(), Demands::default());
    assert_eq!(verified.report.exit_code(), 0);
    assert!(!verified.report.keys_pinned);
    assert!(verified.report.to_string().contains("not pinned"));
}

#[test]
fn one_changed_byte_of_an_entry_is_named_by_its_index() {
    let log = grown(300);
    for (index, byte) in [(0_usize, 20), (100, 60), (299, 150)] {
        let mut frames = log.frames(None);
        for frame in &mut frames {
            if let Frame::Entry { index: at, bytes } = frame
                && *at == index as u64
            {
                bytes[byte] ^= 1;
            }
        }
        let verified = check(&log, &file(&frames));
        assert_eq!(worst(&verified), (10, Some(index as u64)));
    }
}

#[test]
fn one_changed_hash_is_named_by_its_index() {
    let log = grown(300);
    let mut frames = log.frames(None);
    for frame in &mut frames {
        if let Frame::Hashes { first: 256, hashes } = frame {
            hashes[10][0] ^= 1;
        }
    }
    let verified = check(&log, &file(&frames));
    assert_eq!(verified.report.exit_code(), 10);
    assert!(verified.report.findings.iter().any(|finding| finding.index == Some(266)));
}

#[test]
fn an_entry_changed_with_all_hashes_made_anew_does_not_lead_to_the_signed_root() {
    let mut log = grown(300);
    let mut other = log.entry(EventType::RecordItemWrite);
    other.writer_sequence = 201;
    log.entries[200] = other.encode();
    let verified = check(&log, &log.bundle());
    // Between the two checkpoints, of sizes 150 and 300.
    assert_eq!(worst(&verified), (10, Some(150)));
}

/// The log of `grown(40)` without its entry 7, everything after it numbered anew.
fn rebuilt() -> Log {
    let mut forged = Log::new("eu", 10);
    forged.fill(7);
    for _ in 7..42 {
        let mut entry = forged.entry(EventType::RecordItemRead);
        entry.nonce = [8; 16];
        forged.push(&entry);
    }
    forged
}

#[test]
fn a_log_rebuilt_and_signed_by_the_real_key_contradicts_a_kept_head() {
    let log = grown(40);
    let kept = check(&log, &log.bundle()).head.expect("a head");
    let mut forged = rebuilt();
    forged.checkpoint();
    let policy = policy(&[&forged]);
    let demands = Demands { policy: Some(&policy), state: Some(&kept), ..Demands::default() };
    let verified = verify(&forged.bundle(), demands);
    assert_eq!(verified.report.exit_code(), 11);
    assert_eq!(verified.report.evidence, [kept.checkpoint]);
}

#[test]
fn a_rebuilt_log_contradicts_its_own_older_checkpoints() {
    let log = grown(40);
    let mut forged = rebuilt();
    forged.notes = vec![log.notes[0].clone()];
    forged.checkpoint();
    let verified = check(&forged, &forged.bundle());
    assert_eq!(verified.report.exit_code(), 11);
    assert_eq!(verified.report.evidence.len(), 2, "both signed checkpoints are the evidence");
}

#[test]
fn a_log_that_grew_agrees_with_the_kept_head_and_one_that_shrank_does_not() {
    let mut log = grown(10);
    let kept = check(&log, &log.bundle()).head.expect("a head");
    let old =
        Log { notes: log.notes[..1].to_vec(), entries: log.entries[..5].to_vec(), ..Log::new("eu", 10) };
    log.fill(5);
    log.checkpoint();
    let policy = policy(&[&log]);
    let demands = Demands { policy: Some(&policy), state: Some(&kept), ..Demands::default() };
    assert_eq!(verify(&log.bundle(), demands).report.exit_code(), 0);
    assert_eq!(worst(&verify(&old.bundle(), demands)), (12, Some(5)));
    let foreign = SavedHead { checkpoint: Log::new("ca", 30).note() };
    let demands = Demands { state: Some(&foreign), ..demands };
    assert_eq!(verify(&log.bundle(), demands).report.exit_code(), 10);
}

#[test]
fn a_tail_cut_off_is_a_truncation() {
    let log = grown(300);
    let mut frames = log.frames(None);
    frames.retain(|frame| match frame {
        Frame::Entry { index, .. } => *index < 280,
        Frame::Hashes { first, .. } => *first < 256,
        _ => true,
    });
    let verified = check(&log, &file(&frames));
    assert!(verified.report.findings.iter().any(|finding| finding.verdict == Verdict::RolledBack));
}

#[test]
fn an_entry_left_out_is_missing_and_the_tree_still_proves_the_rest() {
    let log = grown(300);
    let mut frames = log.frames(None);
    frames.retain(|frame| !matches!(frame, Frame::Entry { index: 17, .. }));
    if let Some(Frame::End { entries, .. }) = frames.last_mut() {
        *entries -= 1;
    }
    let verified = check(&log, &file(&frames));
    let verdicts: Vec<_> =
        verified.report.findings.iter().map(|finding| (finding.code, finding.index)).collect();
    assert_eq!(verdicts, [(13, Some(17))]);
    assert_eq!(verified.report.checkpoints, 2);
}

#[test]
fn an_entry_dropped_before_sequencing_leaves_a_gap_in_its_writers_numbers() {
    let mut log = Log::new("eu", 10);
    log.fill(5);
    for number in [7, 8] {
        let mut entry = log.entry(EventType::RecordItemRead);
        entry.writer_sequence = number;
        log.push(&entry);
    }
    log.checkpoint();
    let young = check(&log, &log.bundle());
    assert_eq!(young.report.exit_code(), 0);
    assert!(young.report.remarks.iter().any(|remark| remark.contains("in flight")));

    let mut late = log.entry(EventType::RecordItemRead);
    late.writer_sequence = 9;
    late.written_at = late.written_at.plus(Duration::from_secs(3600));
    late.sequenced_at = Some(late.written_at);
    log.push(&late);
    log.checkpoint();
    assert_eq!(check(&log, &log.bundle()).report.exit_code(), 13);
}

#[test]
fn an_entry_replayed_is_caught_by_its_writers_number() {
    let mut log = grown(5);
    let again = log.entries[2].clone();
    log.entries.push(again);
    log.checkpoint();
    assert_eq!(worst(&check(&log, &log.bundle())), (10, Some(5)));
}

#[test]
fn another_logs_entry_or_an_unsequenced_one_is_caught() {
    let mut log = grown(4);
    let mut foreign = log.entry(EventType::RecordItemRead);
    foreign.origin = "ca.example/log".into();
    log.push(&foreign);
    let mut raw = log.entry(EventType::RecordItemRead);
    raw.sequenced_at = None;
    log.push(&raw);
    log.checkpoint();
    let verified = check(&log, &log.bundle());
    let places: Vec<_> =
        verified.report.findings.iter().map(|finding| (finding.code, finding.index)).collect();
    assert_eq!(places, [(10, Some(4)), (10, Some(5))]);
}

#[test]
fn a_checkpoint_by_another_key_is_refused() {
    let (log, thief) = (grown(4), grown(4));
    let mut pinned = policy(&[&thief]);
    let stranger = TestKey::new(99).public();
    let name = |key: &VerifierKey| VerifierKey::new(key.name(), stranger).expect("a name");
    for LogKeys { checkpoint, statement } in pinned.logs.values_mut() {
        (*checkpoint, *statement) = (name(checkpoint), name(statement));
    }
    let verified = verify(&log.bundle(), Demands { policy: Some(&pinned), ..Demands::default() });
    assert_eq!(verified.report.exit_code(), 10);
    assert!(verified.head.is_none());
}

#[test]
fn a_region_the_policy_does_not_know_is_not_proven() {
    let log = grown(4);
    let other = policy(&[&Log::new("ca", 30)]);
    assert_eq!(
        verify(&log.bundle(), Demands { policy: Some(&other), ..Demands::default() }).report.exit_code(),
        10
    );
}

#[test]
fn a_demanded_quorum_is_short() {
    let log = grown(4);
    let demanding = Policy { quorum: 2, ..policy(&[&log]) };
    let verified = verify(&log.bundle(), Demands { policy: Some(&demanding), ..Demands::default() });
    assert_eq!(verified.report.exit_code(), 14);
}

#[test]
fn a_stale_head_and_odd_clocks_are_told() {
    let mut log = grown(4);
    let strict = Policy { max_age_hours: Some(1), ..policy(&[&log]) };
    let fresh = Timestamp::from_micros(1_800_000_010_000_000);
    let demands = Demands { policy: Some(&strict), now: Some(fresh), ..Demands::default() };
    assert_eq!(verify(&log.bundle(), demands).report.exit_code(), 0);
    let later = Some(fresh.plus(Duration::from_secs(2 * 3600)));
    assert_eq!(verify(&log.bundle(), Demands { now: later, ..demands }).report.exit_code(), 17);

    let mut ahead = log.entry(EventType::RecordItemRead);
    ahead.written_at = ahead.written_at.plus(Duration::from_secs(3600));
    log.push(&ahead);
    log.checkpoint();
    assert_eq!(worst(&check(&log, &log.bundle())), (18, Some(4)));
}

/// Entries that were left in the outbox when a region was killed are taken in when it starts again.
#[test]
fn a_region_that_was_switched_off_is_not_odd() {
    let off = Duration::from_secs(30 * 3600);
    let later = |log: &Log, event: EventType, wait: Duration| {
        let mut entry = log.entry(event);
        let at = entry.written_at.plus(off);
        entry.sequenced_at = Some(at);
        let wait = i64::try_from(wait.as_micros()).expect("small");
        entry.written_at = Timestamp::from_micros(at.micros() - wait);
        entry
    };
    let told = |entries: &[(EventType, Duration)]| {
        let mut log = grown(4);
        for (event, wait) in entries {
            let entry = later(&log, *event, *wait);
            log.push(&entry);
        }
        log.checkpoint();
        worst(&check(&log, &log.bundle()))
    };
    let (read, start) = (EventType::RecordItemRead, EventType::SystemStart);
    let now = Duration::ZERO;
    assert_eq!(told(&[(read, off), (read, off), (start, now), (read, now)]), (0, None));
    assert_eq!(told(&[(start, now), (read, off)]), (0, None), "another process may have started before");
    assert_eq!(told(&[(read, off), (read, off), (read, now)]), (18, Some(4)), "nobody says that it started");
    let before = off.saturating_sub(Duration::from_secs(2 * 3600));
    assert_eq!(told(&[(read, before), (start, now)]), (18, Some(4)), "written while it was off");
    let long = off + Duration::from_secs(2 * 3600);
    assert_eq!(told(&[(read, long), (start, now)]), (18, Some(4)), "late before it was off");
}

#[test]
fn a_bundle_that_breaks_off_or_is_none_is_unreadable() {
    let log = grown(30);
    let bundle = log.bundle();
    for cut in [0, 3, 18, 100, bundle.len() / 2, bundle.len() - 1] {
        assert_eq!(check(&log, &bundle[..cut]).report.exit_code(), 3, "cut at {cut}");
    }
    let mut longer = bundle;
    longer.push(0);
    assert_eq!(check(&log, &longer).report.exit_code(), 3);
    assert_eq!(check(&log, b"PK\x03\x04 something else entirely").report.exit_code(), 3);
    let mut frames = log.frames(None);
    frames.swap(0, 1);
    assert_eq!(check(&log, &file(&frames)).report.exit_code(), 3);
}

#[test]
fn no_flipped_byte_of_a_bundle_goes_unnoticed() {
    let log = grown(6);
    let bundle = log.bundle();
    for at in 0..bundle.len() {
        let mut wrong = bundle.clone();
        wrong[at] ^= 0x20;
        let verified = check(&log, &wrong);
        // What is only informative (times and peers in the header) is covered by no signature.
        let header = at < 400;
        assert!(header || verified.report.exit_code() != 0, "byte {at}");
    }
}

#[test]
fn it_reads_in_pieces_of_any_size() {
    let pair = Pair::aborted(1);
    let policy = pair.policy();
    let bundle = pair.source.bundle();
    let demands = Demands { policy: Some(&policy), ..Demands::default() };
    let whole = verify(&bundle, demands).report;
    for size in [1, 13, 1000] {
        let mut verifier = Verifier::new(demands);
        bundle.chunks(size).for_each(|piece| verifier.push(piece));
        assert_eq!(verifier.finish().report, whole);
    }
}

fn both(pair: &Pair) -> (VerifiedBundle, VerifiedBundle) {
    let policy = pair.policy();
    let demands = Demands { policy: Some(&policy), ..Demands::default() };
    (verify(&pair.source.bundle(), demands), verify(&pair.destination.bundle(), demands))
}

#[test]
fn both_logs_tell_the_same_story_of_a_transfer() {
    let pair = Pair::aborted(1);
    let (left, right) = both(&pair);
    assert_eq!((left.report.findings.as_slice(), right.report.findings.as_slice()), (&[][..], &[][..]));
    assert_eq!((left.report.statements, left.report.transfers.len()), (5, 1));
    let comparison = compare(&left, &right, pair.transfer);
    assert_eq!((comparison.exit_code(), comparison.rests, comparison.steps.len()), (0, true, 5));
    let text = comparison.to_string();
    assert!(text.contains("ended; both logs agree"), "{text}");
    assert_eq!(compare(&left, &right, transfer(9)).exit_code(), 15, "neither knows it");
}

#[test]
fn a_step_dropped_from_one_log_is_a_disagreement() {
    for dropped in 0..5 {
        let mut pair = Pair::aborted(1);
        let at = pair.destination.entries.len() - 5 + dropped;
        pair.destination.entries.remove(at);
        pair.destination.notes.clear();
        pair.destination.checkpoint();
        let (left, right) = both(&pair);
        assert_eq!(right.report.exit_code(), 15, "step {dropped} is signed and not logged");
        assert_eq!(compare(&left, &right, pair.transfer).exit_code(), 15, "step {dropped}");
    }
}

#[test]
fn steps_reordered_in_one_log_are_a_disagreement() {
    let mut pair = Pair::aborted(1);
    let count = pair.source.entries.len();
    pair.source.entries.swap(count - 5, count - 3);
    pair.source.notes.clear();
    pair.source.checkpoint();
    assert_eq!(both(&pair).0.report.exit_code(), 15);
}

#[test]
fn a_step_replayed_from_another_transfer_is_a_disagreement() {
    let mut pair = Pair::aborted(1);
    let other = Pair::aborted(2);
    let mut stolen = pair.source.entry(EventType::TransferRequested);
    let mut reference = other.source.statements[0].read().expect("a statement").statement.reference();
    stolen.transfer = Some(pair.transfer);
    stolen.statement = Some(reference.clone());
    pair.source.push(&stolen);
    pair.source.checkpoint();
    assert_eq!(both(&pair).0.report.exit_code(), 15);

    // The same with the transfer's id written over: it is not what was signed.
    let mut pair = Pair::aborted(1);
    reference.transfer = pair.transfer;
    reference.sequence = 4;
    stolen = pair.source.entry(EventType::TransferRequested);
    stolen.transfer = Some(pair.transfer);
    stolen.statement = Some(reference);
    pair.source.push(&stolen);
    pair.source.checkpoint();
    assert_eq!(both(&pair).0.report.exit_code(), 15);
}

#[test]
fn a_statement_by_another_key_is_a_disagreement() {
    let mut pair = Pair::aborted(1);
    let read = pair.source.statements[0].read().expect("a statement");
    let forged = SignedStatement::sign(&TestKey::new(77), read.statement, &read.body);
    pair.source.statements[0] = forged;
    assert_eq!(both(&pair).0.report.exit_code(), 15);
}

#[test]
fn a_step_still_on_its_way_is_no_disagreement() {
    let mut pair = Pair::new(1);
    pair.requested(Timestamp::from_micros(1_900_000_000_000_000));
    pair.destination.entries.pop();
    pair.destination.statements.pop();
    pair.source.checkpoint();
    pair.destination.checkpoint();
    let (left, right) = both(&pair);
    let comparison = compare(&left, &right, pair.transfer);
    assert_eq!((comparison.exit_code(), comparison.rests), (0, false));
    assert!(!comparison.steps[0].same);
}

#[test]
fn a_transfer_open_past_its_deadline_is_overdue() {
    let mut pair = Pair::new(1);
    let expires = Timestamp::from_micros(1_800_000_600_000_000);
    pair.requested(expires);
    pair.source.checkpoint();
    pair.destination.checkpoint();
    let policy = pair.policy();
    let now = Some(expires.minus(Duration::from_secs(1)));
    let demands = Demands { policy: Some(&policy), now, ..Demands::default() };
    assert_eq!(verify(&pair.source.bundle(), demands).report.exit_code(), 0);
    let now = Some(expires.plus(Duration::from_secs(1)));
    assert_eq!(verify(&pair.source.bundle(), Demands { now, ..demands }).report.exit_code(), 16);

    let released = Body::Released {
        freeze: 1,
        final_revision: 9,
        root: [1; 32],
        epoch: 2,
        key_release_digest: [2; 32],
        consent_digest: [3; 32],
    };
    pair.ours(&released);
    pair.source.checkpoint();
    assert_eq!(verify(&pair.source.bundle(), Demands { now, ..demands }).report.exit_code(), 0, "settling");
    let now = now.map(|now| now.plus(Duration::from_secs(73 * 3600)));
    assert_eq!(verify(&pair.source.bundle(), Demands { now, ..demands }).report.exit_code(), 16);
}

#[test]
fn policies_refuse_unknown_keys_and_print_what_they_read() {
    let log = grown(1);
    let text = policy(&[&log]).to_json();
    assert_eq!(Policy::parse(&text), Ok(policy(&[&log])));
    assert!(Policy::parse(&text.replace("quorum", "quorom")).is_err());
    assert!(Policy::parse("{}").is_err());
    let keys = serde_json::to_string(&log.keys).expect("JSON");
    let twice = format!(r#"{{"logs": {{"eu": {keys}, "eu": {keys}}}, "quorum": 0}}"#);
    assert!(Policy::parse(&twice).is_err(), "a region that stands twice");
}

#[test]
fn hashes_in_the_bundle_are_those_of_the_entries() {
    let log = grown(300);
    let frames = log.frames(None);
    let tiles = frames.iter().filter(|frame| matches!(frame, Frame::Hashes { .. })).count();
    assert_eq!(tiles, 2);
    let Some(Frame::Hashes { hashes, .. }) =
        frames.iter().find(|frame| matches!(frame, Frame::Hashes { .. }))
    else {
        panic!("a tile")
    };
    assert_eq!(hashes[0], leaf_hash(&log.entries[0]));
}
