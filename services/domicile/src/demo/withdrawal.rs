//! The second scenario: a consent withdrawn while the record is being copied.

use std::cell::Cell;

use domicile_cli::client::answer;
use domicile_cli::failure::Result;
use domicile_cli::text;
use domicile_proto::records::v1::GetSummaryRequest;
use domicile_proto::transfer::v1::{AbortReason, Transfer, TransferState, WithdrawConsentRequest};
use domicile_types::Code;
use tokio::sync::Notify;

use super::people::{Person, Practice};
use super::stage::Stage;
use super::{journey, proof, record};

/// Items of the second client.
const ITEMS: u64 = 240;
/// Their attachment, in bytes: at the demonstration's pace it is on its way for two seconds.
const ATTACHMENT: usize = 8 * 1024 * 1024;

/// Moves a second client's record, withdraws in mid-copy, and shows that nothing has happened to it.
/// Gives the transfer.
pub(super) async fn play(stage: &Stage<'_>, practice: &Practice, person: &Person) -> Result<String> {
    let subject = &person.subject;
    let writers = (&practice.at_source, &person.at_source);
    record::fill(writers, subject, ITEMS, &stage.app.ctx, || {}).await?;
    let upload =
        record::attach(&practice.at_source, subject, "report.bin", ATTACHMENT, &stage.app.ctx).await?;
    let readers = [&practice.at_source, &person.at_source];
    let before = record::snapshot(readers, subject).await?;
    let offer = journey::ask(stage, person, false).await?;
    journey::consent(stage, person, &offer).await?;

    let last = withdraw_in_mid_copy(stage, person, &offer.transfer_id).await?;
    let withdrawn = last.state() == TransferState::Aborted && last.abort_reason() == AbortReason::Withdrawn;
    stage.check(withdrawn, "the transfer ended as withdrawn")?;

    let after = record::snapshot(readers, subject).await?;
    let same = after.len() == before.len() && record::differences(&before, &after) == 0;
    stage.check(same, format!("all {} items are unchanged at home", before.len()))?;
    stage.check(record::same_upload(&practice.at_source, subject, &upload).await?, "so is the attachment")?;
    record::fill(writers, subject, 6, &stage.app.ctx, || {}).await?;
    stage.check(true, "the record takes writes again")?;
    nothing_there(stage, practice, subject).await?;
    proof::logs(stage, &offer.transfer_id, "aborted").await?;
    Ok(offer.transfer_id)
}

/// Watches until some but not all of the record has been copied, withdraws, and watches to the end.
async fn withdraw_in_mid_copy(stage: &Stage<'_>, person: &Person, transfer_id: &str) -> Result<Transfer> {
    let partly = Notify::new();
    let seen = Cell::new(None);
    let react = |transfer: &Transfer| {
        let progress = transfer.progress.unwrap_or_default();
        let copying = transfer.state() == TransferState::Copying;
        let partly_there = progress.bytes_done > 0 && progress.bytes_done < progress.bytes_total;
        if copying && partly_there && seen.get().is_none() {
            seen.set(Some(progress));
            partly.notify_one();
        }
    };
    let withdraw = async {
        partly.notified().await;
        let request = WithdrawConsentRequest { transfer_id: transfer_id.to_owned() };
        answer(person.at_source.transfers().withdraw_consent(request)).await
    };
    let watched = journey::watch(stage, person, transfer_id, react);
    let mut withdraw = std::pin::pin!(withdraw);
    let mut watched = std::pin::pin!(watched);
    let mut acknowledged = None;
    let last = loop {
        tokio::select! {
            done = &mut withdraw, if acknowledged.is_none() => {
                acknowledged = Some(done?);
            }
            last = &mut watched => break last?,
        }
    };
    let (copied, total) = seen.get().map_or((0, 0), |progress| (progress.bytes_done, progress.bytes_total));
    let copied = format!("{} of {}", text::size(copied), text::size(total));
    stage.check(acknowledged.is_some(), format!("withdrawn in mid-copy, with {copied} copied"))?;
    Ok(last)
}

/// The destination knows nothing of the record and keeps nothing of what it was sent.
async fn nothing_there(stage: &Stage<'_>, practice: &Practice, subject: &str) -> Result<()> {
    let request = GetSummaryRequest { subject_id: subject.to_owned() };
    let asked = answer(practice.at_destination.records().get_summary(request)).await;
    let unknown = asked.err().is_some_and(|error| error.code() == Code::NotFound);
    stage.check(unknown, format!("{} knows no such record", stage.destination))
}
