//! Associated data: what a sealed text is bound to. Every field stands behind its length, an absent
//! one behind a length no field can have, and every place has a tag of its own; so no two places give
//! the same bytes.

use domicile_types::{
    AccountId, ItemHeader, ObjectId, PracticeId, RegionId, SubjectId, Timestamp, TransferId,
};

/// The length that stands for an absent field.
const ABSENT: u32 = u32::MAX;

/// Writes length-prefixed fields.
struct Fields(Vec<u8>);

impl Fields {
    fn of(tag: &str) -> Self {
        Self(Vec::with_capacity(320)).bytes(tag.as_bytes())
    }

    fn bytes(mut self, field: &[u8]) -> Self {
        // A field of 4 GiB cannot be: the longest is a kind's name of a bounded request.
        let length = u32::try_from(field.len()).unwrap_or(ABSENT - 1);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    fn maybe(mut self, field: Option<&[u8]>) -> Self {
        match field {
            Some(field) => self.bytes(field),
            None => {
                self.0.extend_from_slice(&ABSENT.to_be_bytes());
                self
            }
        }
    }

    fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    fn number(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    fn time(self, field: Timestamp) -> Self {
        self.bytes(&field.micros().to_be_bytes())
    }

    fn maybe_time(self, field: Option<Timestamp>) -> Self {
        self.maybe(field.map(|at| at.micros().to_be_bytes()).as_ref().map(|bytes| &bytes[..]))
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

macro_rules! id_bytes {
    ($option:expr) => {
        $option.as_ref().map(|id| &id.as_bytes()[..])
    };
}

/// An item's payload: bound to region, record, practice, item, version, kind and every header field
/// that says what the payload is (data-model.md, "Keys"). Not bound: revision, length, digest, retention,
/// idempotency and the time of writing, which change or are known without opening it.
#[must_use]
pub fn item(region: &RegionId, header: &ItemHeader) -> Vec<u8> {
    Fields::of("domicile/item/1")
        .text(region.as_str())
        .bytes(header.subject_id.as_bytes())
        .maybe(id_bytes!(header.practice_id))
        .bytes(header.item_id.as_bytes())
        .text(&header.kind)
        .number(u64::from(header.version))
        .bytes(header.author_id.as_bytes())
        .maybe(id_bytes!(header.practitioner_id))
        .maybe(id_bytes!(header.parent_id))
        .maybe(id_bytes!(header.occasion_id))
        .maybe(id_bytes!(header.object_id))
        .text(header.visibility.as_str())
        .text(&header.state)
        .time(header.occurred_at)
        .maybe_time(header.starts_at)
        .maybe_time(header.ends_at)
        .maybe_time(header.signed_at)
        .number(u64::from(header.schema))
        .number(u64::from(header.key_version))
        .done()
}

/// One chunk of an object: bound to its place in the object, and to being the last or not.
#[must_use]
pub fn object_chunk(
    region: &RegionId,
    subject: SubjectId,
    practice: Option<PracticeId>,
    object: ObjectId,
    key_version: u32,
    index: u32,
    last: bool,
) -> Vec<u8> {
    Fields::of("domicile/object/1")
        .text(region.as_str())
        .bytes(subject.as_bytes())
        .maybe(id_bytes!(practice))
        .bytes(object.as_bytes())
        .number(u64::from(key_version))
        .number(u64::from(index))
        .number(u64::from(last))
        .done()
}

/// One sealed field of an account, such as its e-mail address.
#[must_use]
pub fn account_field(region: &RegionId, account: AccountId, field: &str) -> Vec<u8> {
    Fields::of("domicile/account/1").text(region.as_str()).bytes(account.as_bytes()).text(field).done()
}

/// One sealed field of a practice, such as its name.
#[must_use]
pub fn practice_field(region: &RegionId, practice: PracticeId, field: &str) -> Vec<u8> {
    Fields::of("domicile/practice/1").text(region.as_str()).bytes(practice.as_bytes()).text(field).done()
}

/// A record key under a wrapping key of `wrapping_version`.
#[must_use]
pub fn wrapped_record_key(
    region: &RegionId,
    subject: SubjectId,
    practice: Option<PracticeId>,
    version: u32,
    wrapping_version: u32,
) -> Vec<u8> {
    Fields::of("domicile/record-key/1")
        .text(region.as_str())
        .bytes(subject.as_bytes())
        .maybe(id_bytes!(practice))
        .number(u64::from(version))
        .number(u64::from(wrapping_version))
        .done()
}

/// A subject's secret under the region's wrapping key of `wrapping_version`.
#[must_use]
pub fn wrapped_subject_secret(
    region: &RegionId,
    subject: SubjectId,
    purpose: &str,
    wrapping_version: u32,
) -> Vec<u8> {
    Fields::of("domicile/subject-secret/1")
        .text(region.as_str())
        .bytes(subject.as_bytes())
        .text(purpose)
        .number(u64::from(wrapping_version))
        .done()
}

/// What a key release is bound to; goes in as HPKE's `info` (transfer.md, "Adopted").
#[derive(Clone, Debug)]
pub struct KeyRelease<'a> {
    /// The transfer.
    pub transfer: TransferId,
    /// The subject's attempt.
    pub attempt: u64,
    /// The region that releases.
    pub source: &'a RegionId,
    /// The region that adopts.
    pub destination: &'a RegionId,
    /// The epoch the record has at the destination.
    pub epoch: u64,
    /// The Merkle root both sides staged.
    pub root: &'a [u8; 32],
    /// The digest of the consent it rests on.
    pub consent_digest: &'a [u8; 32],
}

/// The key release: bound to transfer, attempt, both regions, epoch, staged root and consent.
#[must_use]
pub fn key_release(release: &KeyRelease<'_>) -> Vec<u8> {
    Fields::of("domicile/key-release/1")
        .bytes(release.transfer.as_bytes())
        .number(release.attempt)
        .text(release.source.as_str())
        .text(release.destination.as_str())
        .number(release.epoch)
        .bytes(release.root)
        .bytes(release.consent_digest)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_runs_into_the_next() {
        let fields = |a: &str, b: &str| Fields::of("t").text(a).text(b).done();
        assert_ne!(fields("ab", "c"), fields("a", "bc"));
        assert_ne!(fields("abc", ""), fields("", "abc"));
        assert_ne!(Fields::of("t").text("a").done(), Fields::of("ta").done());
    }

    #[test]
    fn absent_is_not_empty_and_not_the_next_field() {
        let maybe = |a: Option<&[u8]>, b: Option<&[u8]>| Fields::of("t").maybe(a).maybe(b).done();
        let all = [
            maybe(None, None),
            maybe(Some(b""), None),
            maybe(None, Some(b"")),
            maybe(Some(b"x"), None),
            maybe(None, Some(b"x")),
            maybe(Some(b"\xFF\xFF\xFF\xFF"), None),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one));
        }
        let times = |a, b| Fields::of("t").maybe_time(a).maybe_time(b).done();
        let at = Some(Timestamp::EPOCH);
        assert_ne!(times(at, None), times(None, at));
    }
}
