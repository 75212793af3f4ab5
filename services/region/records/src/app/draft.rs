//! What a caller wants written, and the header it becomes.

use domicile_proto::records::v1 as pb;
use domicile_types::{
    AccountId, Code, Error, ItemHeader, ItemId, ObjectId, OccasionId, PracticeId, Result, Timestamp,
    Visibility,
};

use super::{Settings, Side, Who};
use crate::kinds::{self, Editors, Kind, Writers};
use crate::wire::{id, invalid, maybe_id, maybe_time};

/// Bytes of a payload at most: with its header it travels as one chunk of 1 MiB.
pub(super) const PAYLOAD_BYTES: usize = 1_000_000;

/// A caller's draft, checked against its kind.
#[derive(Clone)]
pub(crate) struct Draft {
    /// The item to write a new version of, and the version the change is based on.
    pub(super) edits: Option<(ItemId, u32)>,
    pub(super) parent: Option<ItemId>,
    pub(crate) kind: &'static Kind,
    pub(super) payload: pb::Payload,
    occurred_at: Option<Timestamp>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    state: String,
    visibility: Option<Visibility>,
}

/// What a draft meets in the record.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    pub(super) previous: Option<&'a ItemHeader>,
    pub(super) parent: Option<&'a ItemHeader>,
    pub(super) occasion: Option<OccasionId>,
    pub(super) object: Option<ObjectId>,
}

impl Draft {
    pub(crate) fn read(draft: Option<pb::ItemDraft>) -> Result<Self> {
        let draft = draft.ok_or_else(|| invalid("draft"))?;
        let mut payload = draft.payload.ok_or_else(|| Error::new(Code::KindUnknown))?;
        let kind = kinds::prepare(&mut payload)?;
        let item: Option<ItemId> = maybe_id("draft.item_id", &draft.item_id)?;
        if item.is_some() != (draft.based_on_version > 0) {
            return Err(invalid("draft.based_on_version"));
        }
        let (starts_at, ends_at) = (
            maybe_time("draft.starts_at_micros", draft.starts_at_micros)?,
            maybe_time("draft.ends_at_micros", draft.ends_at_micros)?,
        );
        if matches!((starts_at, ends_at), (Some(start), Some(end)) if end < start) {
            return Err(invalid("draft.ends_at_micros"));
        }
        kind.state(&draft.state)?;
        Ok(Self {
            edits: item.map(|item| (item, draft.based_on_version)),
            parent: maybe_id("draft.parent_id", &draft.parent_id)?,
            kind,
            payload,
            occurred_at: maybe_time("draft.occurred_at_micros", draft.occurred_at_micros)?,
            starts_at,
            ends_at,
            state: draft.state,
            visibility: visibility(&draft.visibility)?,
        })
    }

    /// The header of the version to write, but for its key, digest, revision and idempotency.
    ///
    /// # Errors
    /// [`Code::Forbidden`], [`Code::ItemLocked`], [`Code::VersionConflict`], [`Code::InvalidRequest`].
    pub(super) fn header(
        &self,
        who: &Who,
        place: Place<'_>,
        fresh: ItemId,
        now: Timestamp,
        settings: &Settings,
    ) -> Result<ItemHeader> {
        let mut header = match place.previous {
            None => self.first(who, place, fresh, now)?,
            Some(previous) => self.next(who, previous, now)?,
        };
        header.signed_at = (self.kind.signed == Some(header.state.as_str())).then_some(now);
        header.retain_until = retained(&header, settings);
        Ok(header)
    }

    fn first(&self, who: &Who, place: Place<'_>, fresh: ItemId, now: Timestamp) -> Result<ItemHeader> {
        self.may_write(who)?;
        let (practice_id, practitioner_id) = owner(who, place.parent);
        Ok(ItemHeader {
            item_id: fresh,
            version: 1,
            practice_id,
            practitioner_id,
            parent_id: self.parent,
            occasion_id: place.occasion,
            object_id: place.object,
            occurred_at: self.occurred_at.unwrap_or(now),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            state: self.kind.state(&self.state)?.to_owned(),
            visibility: self.seen_by(who, self.visibility)?,
            ..blank(who, self.kind, now)
        })
    }

    fn next(&self, who: &Who, previous: &ItemHeader, now: Timestamp) -> Result<ItemHeader> {
        if previous.kind != self.kind.name {
            return Err(invalid("draft.payload"));
        }
        if self.kind.editors == Editors::Nobody || self.kind.is_locked(&previous.state) {
            return Err(Error::new(Code::ItemLocked));
        }
        if self.edits.map(|(_, version)| version) != Some(previous.version) {
            return Err(Error::new(Code::VersionConflict));
        }
        self.may_edit(who, previous)?;
        if self.parent.is_some() && self.parent != previous.parent_id {
            return Err(invalid("draft.parent_id"));
        }
        let (starts_at, ends_at) = (self.starts_at.or(previous.starts_at), self.ends_at.or(previous.ends_at));
        if matches!((starts_at, ends_at), (Some(start), Some(end)) if end < start) {
            return Err(invalid("draft.ends_at_micros"));
        }
        let state = if self.state.is_empty() { &previous.state } else { &self.state };
        Ok(ItemHeader {
            item_id: previous.item_id,
            version: previous.version.checked_add(1).ok_or_else(|| Error::new(Code::TooLarge))?,
            practice_id: previous.practice_id,
            practitioner_id: previous.practitioner_id,
            parent_id: previous.parent_id,
            occasion_id: previous.occasion_id,
            object_id: previous.object_id,
            occurred_at: self.occurred_at.unwrap_or(previous.occurred_at),
            starts_at,
            ends_at,
            state: state.clone(),
            visibility: self.still_seen_by(who, previous)?,
            retain_until: previous.retain_until,
            ..blank(who, self.kind, now)
        })
    }

    fn may_write(&self, who: &Who) -> Result<()> {
        let fits = match (self.kind.writers, who.side) {
            (Writers::Both, _) | (Writers::Client, Side::Client) | (Writers::Carers, Side::Carer(_)) => true,
            (Writers::Import | Writers::Client | Writers::Carers, _) => false,
        };
        if fits { Ok(()) } else { Err(Error::new(Code::Forbidden).at(self.kind.name)) }
    }

    fn may_edit(&self, who: &Who, previous: &ItemHeader) -> Result<()> {
        let another_practice = match who.side {
            Side::Client => false,
            Side::Carer(practice) => previous.practice_id.is_some_and(|owner| owner != practice),
        };
        let fits = match self.kind.editors {
            Editors::Author => previous.author_id == who.account,
            Editors::Writers => !another_practice,
            Editors::Nobody => false,
        };
        if fits { self.may_write(who) } else { Err(Error::new(Code::Forbidden).at("author")) }
    }

    /// The visibility asked for, or the first of the kind's that the writer may choose.
    fn seen_by(&self, who: &Who, wanted: Option<Visibility>) -> Result<Visibility> {
        let may_choose = |visibility: &Visibility| match who.side {
            Side::Client => matches!(visibility, Visibility::Shared | Visibility::ClientPrivate),
            Side::Carer(_) => *visibility != Visibility::ClientPrivate,
        };
        let mut choices = self.kind.visibilities.iter().copied().filter(may_choose);
        match wanted {
            None => choices.next(),
            Some(wanted) => choices.find(|choice| *choice == wanted),
        }
        .ok_or_else(|| invalid("draft.visibility"))
    }

    /// Only the author changes who sees an item.
    fn still_seen_by(&self, who: &Who, previous: &ItemHeader) -> Result<Visibility> {
        match self.visibility {
            None => Ok(previous.visibility),
            Some(same) if same == previous.visibility => Ok(same),
            Some(_) if previous.author_id != who.account => Err(Error::new(Code::Forbidden).at("author")),
            Some(wanted) => self.seen_by(who, Some(wanted)),
        }
    }
}

/// A first version in which everything is still to be said but whose it is, who writes it, and when.
pub(super) fn blank(who: &Who, kind: &Kind, now: Timestamp) -> ItemHeader {
    ItemHeader {
        item_id: ItemId::from_uuid(uuid::Uuid::nil()),
        version: 1,
        subject_id: who.subject,
        revision: 0,
        kind: kind.name.to_owned(),
        schema: kind.schema,
        practice_id: None,
        practitioner_id: None,
        author_id: who.account,
        parent_id: None,
        occasion_id: None,
        object_id: None,
        occurred_at: now,
        starts_at: None,
        ends_at: None,
        signed_at: None,
        retain_until: None,
        state: String::new(),
        visibility: Visibility::Shared,
        bytes: 0,
        digest: [0; 32],
        key_version: 0,
        idempotency: None,
        written_at: now,
    }
}

/// Whose a new item is: a carer's practice's; a client's own, unless it hangs on an item of a practice.
pub(super) fn owner(who: &Who, parent: Option<&ItemHeader>) -> (Option<PracticeId>, Option<AccountId>) {
    match who.side {
        Side::Carer(practice) => (Some(practice), Some(who.account)),
        Side::Client => parent.map_or((None, None), |parent| (parent.practice_id, parent.practitioner_id)),
    }
}

/// The longest of what stood, of the time since it happened and of the time since it was signed (P22, P26).
pub(super) fn retained(header: &ItemHeader, settings: &Settings) -> Option<Timestamp> {
    let happened = Some(settings.retain.after(header.occurred_at));
    let signed = header.signed_at.map(|at| settings.retain_signed.after(at));
    header.retain_until.max(happened).max(signed)
}

fn visibility(name: &str) -> Result<Option<Visibility>> {
    match name {
        "" => Ok(None),
        name => Visibility::parse(name).map(Some).ok_or_else(|| invalid("draft.visibility")),
    }
}

/// Reads what a draft names: used by requests that must not change an item.
pub(super) fn only_new(draft: &Draft) -> Result<()> {
    if draft.edits.is_some() { Err(invalid("draft.item_id")) } else { Ok(()) }
}

pub(super) fn subject(text: &str) -> Result<domicile_types::SubjectId> {
    id("subject_id", text)
}
