//! Answers for people and for the coordinator.

use domicile_proto::transfer::v1 as pb;
use domicile_transfer_protocol::rows::{ConsentEventRow, ConsentRow, Progress};
use domicile_transfer_protocol::store::Row;
use domicile_transfer_protocol::{Destination, Source, State};
use domicile_types::Timestamp;
use std::collections::BTreeMap;

use crate::app::{Offer, Status, View};
use domicile_evidence::statement::AbortReason;

pub(super) const fn state(state: State) -> pb::TransferState {
    match state {
        State::Requested => pb::TransferState::Requested,
        State::Preflighted => pb::TransferState::Preflighted,
        State::Consented => pb::TransferState::Consented,
        State::Copying => pb::TransferState::Copying,
        State::Frozen => pb::TransferState::Frozen,
        State::Staged => pb::TransferState::Staged,
        State::Released => pb::TransferState::Released,
        State::Adopted => pb::TransferState::Adopted,
        State::Rekeyed => pb::TransferState::Rekeyed,
        State::Shredded => pb::TransferState::Shredded,
        State::Closed => pb::TransferState::Closed,
        State::Aborting => pb::TransferState::Aborting,
        State::Aborted => pb::TransferState::Aborted,
    }
}

const fn reason(reason: Option<AbortReason>) -> pb::AbortReason {
    match reason {
        None => pb::AbortReason::Unspecified,
        Some(AbortReason::Withdrawn) => pb::AbortReason::Withdrawn,
        Some(AbortReason::Expired) => pb::AbortReason::Expired,
        Some(AbortReason::Failed) => pb::AbortReason::Failed,
        Some(AbortReason::Cancelled) => pb::AbortReason::Cancelled,
    }
}

fn micros(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::micros)
}

pub(super) fn transfer(status: &Status) -> pb::Transfer {
    match &status.row {
        Row::Source(row) => source(row, status.progress),
        Row::Destination(row) => destination(row, status.progress),
    }
}

pub(super) fn source(row: &Source, counts: Progress) -> pb::Transfer {
    pb::Transfer {
        transfer_id: row.transfer.to_string(),
        attempt: row.attempt,
        source: row.from.to_string(),
        destination: row.to.to_string(),
        state: state(row.state).into(),
        abort_reason: reason(row.abort).into(),
        paused: row.paused,
        stuck_cause: row.stuck.clone().unwrap_or_default(),
        progress: Some(progress(counts)),
        requested_at_micros: row.requested_at.micros(),
        changed_at_micros: row.changed_at.micros(),
        deadline_micros: micros(row.deadline),
        withdrawable: row.state.withdrawable(),
        freezes: row.freeze,
        blockers: row.blockers.clone(),
        role: "source".to_owned(),
        operator_reason: row.operator_reason.clone().unwrap_or_default(),
    }
}

fn destination(row: &Destination, counts: Progress) -> pb::Transfer {
    pb::Transfer {
        transfer_id: row.transfer.to_string(),
        attempt: row.attempt,
        source: row.from.to_string(),
        destination: row.to.to_string(),
        state: state(row.state).into(),
        abort_reason: reason(row.abort).into(),
        paused: false,
        stuck_cause: row.refused.clone().unwrap_or_default(),
        progress: Some(progress(counts)),
        requested_at_micros: row.requested_at.micros(),
        changed_at_micros: row.changed_at.micros(),
        deadline_micros: 0,
        withdrawable: false,
        freezes: row.frozen.map_or(0, |frozen| frozen.freeze),
        blockers: Vec::new(),
        role: "destination".to_owned(),
        operator_reason: String::new(),
    }
}

const fn progress(counts: Progress) -> pb::Progress {
    pb::Progress {
        rows_done: counts.rows_done,
        rows_total: counts.rows_total,
        objects_done: counts.objects_done,
        objects_total: counts.objects_total,
        bytes_done: counts.bytes_done,
        bytes_total: counts.bytes_total,
    }
}

/// The offer in one language; before it stands, only what blocks it.
pub(super) fn offer(row: &Source, offer: Option<&Offer>, locale: &str) -> domicile_types::Result<pb::Offer> {
    let Some(offer) = offer else {
        return Ok(pb::Offer {
            transfer_id: row.transfer.to_string(),
            source: row.from.to_string(),
            destination: row.to.to_string(),
            blockers: row.blockers.clone(),
            ..Default::default()
        });
    };
    let (locale, notice) = offer.notice(locale);
    let kinds = offer.kinds.iter();
    Ok(pb::Offer {
        transfer_id: offer.transfer.to_string(),
        source: offer.source.to_string(),
        destination: offer.destination.to_string(),
        mechanism: offer.mechanism.clone(),
        kinds: kinds
            .map(|(kind, count)| pb::OfferKind { kind: kind.clone(), items: count.rows, bytes: count.bytes })
            .collect(),
        expected_ms: offer.expected_ms,
        expected_freeze_ms: offer.expected_freeze_ms,
        notice_version: offer.notice_version.clone(),
        locale: locale.to_owned(),
        notice: notice.to_owned(),
        digest: crate::convert::bytes(offer.digest()?.as_bytes()),
        expires_at_micros: offer.expires_at.micros(),
        psychotherapy: offer.psychotherapy,
        blockers: row.blockers.clone(),
    })
}

/// The history, newest first.
pub(super) fn consents(rows: &[ConsentRow], events: &[ConsentEventRow]) -> Vec<pb::ConsentEvent> {
    let by_id: BTreeMap<_, _> = rows.iter().map(|row| (row.consent, row)).collect();
    let mut events: Vec<_> = events.iter().collect();
    events.sort_by_key(|event| std::cmp::Reverse((event.at, event.sequence)));
    events.into_iter().filter_map(|event| by_id.get(&event.consent).map(|row| consent(row, event))).collect()
}

fn consent(row: &ConsentRow, event: &ConsentEventRow) -> pb::ConsentEvent {
    pb::ConsentEvent {
        consent_id: row.consent.to_string(),
        transfer_id: row.transfer.map(|id| id.to_string()).unwrap_or_default(),
        purpose: row.purpose.clone(),
        event: event.event.clone(),
        at_micros: event.at.micros(),
        notice_version: row.notice_version.clone(),
        locale: row.locale.clone(),
        offer_digest: row.offer.map(|digest| crate::convert::bytes(digest.as_bytes())).unwrap_or_default(),
        destination: row.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// A view for the coordinator.
pub(super) fn view(view: &View) -> pb::View {
    pb::View {
        transfer_id: view.transfer.to_string(),
        attempt: view.attempt,
        role: if view.is_source { "source" } else { "destination" }.to_owned(),
        source: view.from.to_string(),
        destination: view.to.to_string(),
        state: state(view.plan.state).into(),
        own_sequence: view.plan.own_sequence,
        peer_sequence: view.plan.peer_sequence,
        freeze: view.freeze,
        busy: view.plan.busy,
        cursor: view.plan.cursor,
        revision: view.plan.revision,
        objects_missing: view.plan.objects_missing,
        paused: view.plan.paused,
        refused: view.plan.refused.clone().unwrap_or_default(),
        freeze_not_before_micros: view.plan.freeze_not_before.micros(),
        ready_to_close: view.plan.state == State::Shredded,
        deadline_micros: micros(view.deadline),
        compare: view.plan.compare,
        close: view.plan.close,
    }
}

/// Whether nothing more will happen.
pub(super) fn rests(transfer: &pb::Transfer) -> bool {
    matches!(transfer.state(), pb::TransferState::Closed | pb::TransferState::Aborted)
}

/// The receipt bundle.
pub(super) fn receipt(receipt: crate::app::Receipt) -> domicile_types::Result<pb::GetReceiptResponse> {
    let offer = match (&receipt.status.row, &receipt.offer) {
        (Row::Source(row), Some(kept)) => Some(offer(row, Some(kept), &kept.default_locale)?),
        _ => None,
    };
    Ok(pb::GetReceiptResponse {
        transfer: Some(transfer(&receipt.status)),
        offer,
        statements: receipt.statements.into_iter().map(crate::convert::statement).collect(),
        checkpoints: receipt.checkpoints,
        stays_behind: receipt.stays_behind,
    })
}
