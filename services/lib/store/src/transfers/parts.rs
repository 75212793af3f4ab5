//! What several of the operations are made of.

use std::sync::Arc;

use domicile_transfer_protocol::SourceFacts;
use domicile_transfer_protocol::rows::{FeedRow, SourceObject, StagedRow};
use domicile_transfer_protocol::store::{Row, Work};
use domicile_types::{Code, Error, Result, SubjectId, TransferId};
use futures::future::BoxFuture;

use super::{fence, not_found};
use crate::queries::object::Object;
use crate::queries::{consent, item, residency, transfer};
use crate::{Scope, Tx};

/// The same transaction, refused once the lease is another's.
pub(super) fn fenced<T, F>(
    work: Option<Work>,
    f: F,
) -> impl for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static
where
    T: Send + 'static,
    F: for<'c> Fn(&'c Tx) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    let f = Arc::new(f);
    move |tx| {
        let f = Arc::clone(&f);
        Box::pin(async move {
            fence(tx, work).await?;
            f(tx).await
        })
    }
}

pub(super) fn whose(subject: SubjectId) -> Scope {
    Scope::Move { subject: Some(subject) }
}

pub(super) fn source_object(object: &Object) -> SourceObject {
    SourceObject {
        object: object.object,
        subject: object.subject,
        practice: object.practice,
        length: object.length,
        chunks: object.chunks,
        key_version: object.key_version,
        copy: object.copy,
    }
}

pub(super) fn feed_rows(versions: Vec<item::Version>) -> Result<Vec<FeedRow>> {
    let row = |version: item::Version| {
        let sealed = version.sealed.ok_or_else(|| Error::new(Code::TransferState).at("travelling"))?;
        Ok(FeedRow { header: version.header, sealed })
    };
    versions.into_iter().map(row).collect()
}

/// Refuses unless rows may be sent now: the consent is locked, so a withdrawal waits for this commit or
/// this one sees the withdrawal.
pub(super) async fn may_send(tx: &Tx, id: TransferId, subject: SubjectId) -> Result<()> {
    let given = consent::lock_of_transfer(tx, subject, id).await?;
    let Some(Row::Source(row)) = transfer::find(tx, id).await? else { return Err(not_found()) };
    let home = residency::get(tx, subject).await?.ok_or_else(not_found)?;
    let facts = SourceFacts {
        row: *row,
        consent: given,
        residency: super::source::residency_facts(&home),
        held: false,
        now: tx.now(),
    };
    facts.may_send()
}

/// The items of staged rows. A page pulled by revisions is one range of them; rows pulled by name lie apart.
pub(super) async fn adopted(tx: &Tx, subject: SubjectId, staged: &[StagedRow]) -> Result<Vec<item::Version>> {
    let revisions = staged.iter().map(|row| row.revision);
    let Some((first, last)) = revisions.clone().min().zip(revisions.max()) else { return Ok(Vec::new()) };
    if last - first < 2 * staged.len() as u64 {
        return item::feed_range(tx, subject, first.saturating_sub(1), last).await;
    }
    let keys: Vec<_> = staged.iter().map(|row| (row.item, row.version)).collect();
    item::feed_only(tx, subject, &keys).await
}
