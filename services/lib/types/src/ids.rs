//! Identifiers: one type each, so that a client cannot be taken for a practice.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ctx::{Clock, Ctx, Rng};

/// Sixteen bytes of a UUIDv7 (RFC 9562 §5.7) from a clock and a source of randomness.
#[must_use]
pub fn uuid_v7(clock: &dyn Clock, rng: &dyn Rng) -> Uuid {
    let mut random = [0_u8; 10];
    rng.fill(&mut random);
    let millis = u64::try_from(clock.now().millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Sixteen random bytes as a UUIDv4 (RFC 9562 §5.4): tells nothing of when it was made.
#[must_use]
pub fn uuid_v4(rng: &dyn Rng) -> Uuid {
    let mut random = [0_u8; 16];
    rng.fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $make:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh identifier.
            #[must_use]
            pub fn generate(ctx: &Ctx) -> Self {
                let make: fn(&Ctx) -> Uuid = $make;
                Self(make(ctx))
            }

            /// Wraps a UUID that was made elsewhere.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The sixteen bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads sixteen bytes; `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

fn v4(ctx: &Ctx) -> Uuid {
    uuid_v4(ctx.rng.as_ref())
}

fn v7(ctx: &Ctx) -> Uuid {
    uuid_v7(ctx.clock.as_ref(), ctx.rng.as_ref())
}

id!(
    /// The client whose record it is (GDPR: data subject); random, so it tells nothing.
    SubjectId, v4
);
id!(
    /// A practice: the clinic or sole practitioner's business.
    PracticeId, v4
);
id!(
    /// A person's account. A practitioner is known by their account's id.
    AccountId, v4
);
id!(
    /// One item of a record; unique in the world.
    ItemId, v7
);
id!(
    /// A joint session: the same on every participant's copy.
    OccasionId, v4
);
id!(
    /// One large sealed object.
    ObjectId, v4
);
id!(
    /// One move of one record between two regions.
    TransferId, v4
);
id!(
    /// One consent.
    ConsentId, v4
);
id!(
    /// A grant of access beyond the caseload.
    GrantId, v4
);
id!(
    /// One page of travelling rows.
    PageId, v4
);
id!(
    /// An audit event; its idempotency key.
    EventId, v7
);
id!(
    /// One request, as it stands in logs and audit entries.
    RequestId, v7
);
