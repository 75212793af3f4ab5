//! Exporting an imported bundle: the envelope with its entries back in their places, a page at a time.

use std::sync::Arc;

use bytes::Bytes;
use domicile_proto::records::v1 as pb;
use domicile_store::queries::item::{self, Version};
use domicile_store::queries::residency;
use domicile_types::{AuditScope, Code, Error, ItemId, Result};
use futures::StreamExt as _;
use futures::stream;

use super::draft::subject;
use super::upload::Content;
use super::{Records, Who, json};
use crate::wire::{id, invalid};

/// Entries read at once.
const PAGE: u32 = 64;
/// Bytes of a piece, about.
const PIECE: usize = 256 << 10;

impl Records {
    /// An imported bundle's JSON text, in pieces.
    ///
    /// # Errors
    /// As [`Records::get_item`]; in the stream [`Code::ContentDamaged`] when an entry is missing, and
    /// what the record's move answers.
    pub async fn export_fhir(
        &self,
        audit: &Arc<AuditScope>,
        request: pb::ExportFhirRequest,
    ) -> Result<Content> {
        let bundle: ItemId = id("bundle_item_id", &request.bundle_item_id)?;
        let subject = subject(&request.subject_id)?;
        let who = Who::of(&audit.actor, subject)?;
        let found = self.served(audit, subject, bundle, None).await?;
        // An entry may hold a bundle of its own; only what brought entries hangs on nothing.
        let resource = fhir(self.open(&found).await?).filter(|_| found.header.parent_id.is_none());
        let resource = resource.ok_or_else(|| invalid("bundle_item_id: it is no bundle"))?;
        let envelope = String::from_utf8(resource.json).map_err(|_| damaged())?;
        let (before, after) = json::around(&envelope)?;
        let export = Export {
            records: self.clone(),
            who,
            bundle,
            revision: found.header.revision,
            next: 0,
            entries: resource.entries,
            text: before.into_bytes(),
            after: Some(after),
        };
        Ok(stream::try_unfold(export, |mut export| async move {
            let piece = export.piece().await?;
            Ok(piece.map(|piece| (piece, export)))
        })
        .boxed())
    }

    /// The same version with its sealed payload, as the region's own work.
    pub(super) async fn with_payload(&self, version: Version) -> Result<Version> {
        let subject = version.header.subject_id;
        let named = (version.header.item_id, version.header.version);
        let scope = domicile_store::Scope::Subject(subject);
        let read = self.store().read("item.payload", scope, move |tx| {
            Box::pin(async move { item::feed_only(tx, subject, &[named]).await })
        });
        read.await?.pop().ok_or_else(|| Error::new(Code::NotFound))
    }
}

struct Export {
    records: Records,
    who: Who,
    bundle: ItemId,
    /// The last revision read: entries follow their bundle in the order of their revisions.
    revision: u64,
    /// The position of the next entry.
    next: u32,
    entries: u32,
    /// Text that waits to go out.
    text: Vec<u8>,
    /// What follows the entries; gone once it is in `text`.
    after: Option<String>,
}

impl Export {
    async fn piece(&mut self) -> Result<Option<Bytes>> {
        while self.text.len() < PIECE && self.next < self.entries {
            self.page().await?;
        }
        if self.next == self.entries
            && let Some(after) = self.after.take()
        {
            self.text.extend_from_slice(after.as_bytes());
        }
        let rest = self.text.split_off(self.text.len().min(PIECE));
        let piece = std::mem::replace(&mut self.text, rest);
        Ok((!piece.is_empty()).then(|| Bytes::from(piece)))
    }

    async fn page(&mut self) -> Result<()> {
        let (who, bundle, after) = (self.who, self.bundle, self.revision);
        let served = self.records.settings().released_reads;
        let read = self.records.store().read("fhir.export", who.scope(), move |tx| {
            Box::pin(async move {
                residency::read_check(tx, who.subject, who.reader(), served).await?;
                let parent = (bundle, "fhir_resource");
                item::children(tx, who.subject, who.reader(), parent, after, PAGE).await
            })
        });
        let versions = read.await?;
        if versions.is_empty() {
            return Err(damaged());
        }
        for (payload, version) in
            self.records.open_all(who.subject, &versions).await?.into_iter().zip(&versions)
        {
            let resource = fhir(payload).filter(|resource| resource.position == self.next);
            let resource = resource.filter(|_| self.next < self.entries).ok_or_else(damaged)?;
            if self.next > 0 {
                self.text.push(b',');
            }
            self.text.extend_from_slice(&resource.json);
            self.next += 1;
            self.revision = version.header.revision;
        }
        Ok(())
    }
}

fn fhir(payload: pb::Payload) -> Option<pb::FhirResource> {
    match payload.kind {
        Some(pb::payload::Kind::FhirResource(resource)) => Some(resource),
        _ => None,
    }
}

fn damaged() -> Error {
    Error::new(Code::ContentDamaged)
}
