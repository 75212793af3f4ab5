//! Every error a person or a program can receive: a stable code, its class, what happened, what to do.
//!
//! Each code has a page of the same name under `docs/errors/`; a test holds the two together.

/// The class of an error: the canonical gRPC status codes that Domicile answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request itself is wrong.
    InvalidArgument,
    /// A value is past its bound.
    OutOfRange,
    /// No such thing, or not for this caller.
    NotFound,
    /// The same key or name exists with other content.
    AlreadyExists,
    /// The caller is known and may not.
    PermissionDenied,
    /// The caller is not known.
    Unauthenticated,
    /// The state does not allow it.
    FailedPrecondition,
    /// Lost a race, or the operation was ended from outside; start it again.
    Aborted,
    /// Cannot now; the same request may succeed later.
    Unavailable,
    /// A limit is reached.
    ResourceExhausted,
    /// The caller's or the server's time is over.
    DeadlineExceeded,
    /// Content failed its integrity check.
    DataLoss,
    /// Ours to mend.
    Internal,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $class:ident, $what:literal, $advice:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( #[doc = $what] $name, )* }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as people quote it, such as `DOM-TRANSFER-007`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// Its class.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class),* }
            }

            /// What happened, in a sentence.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$name => $what),* }
            }

            /// What to do about it, in a sentence.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice),* }
            }

            /// Finds a code by its text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

codes! {
    Internal = "DOM-GENERAL-001", Internal, "Something went wrong inside the service.", "Try again. If it stays, give the request id to the region's operator.";
    InvalidRequest = "DOM-GENERAL-002", InvalidArgument, "The request has a value that does not fit.", "Correct the named field and send it again.";
    TooLarge = "DOM-GENERAL-003", OutOfRange, "The request or one of its values is too large.", "Send less at once; large content goes up as an object.";
    Overloaded = "DOM-GENERAL-004", ResourceExhausted, "The service has reached a limit.", "Wait a moment and try again.";
    DeadlineExceeded = "DOM-GENERAL-005", DeadlineExceeded, "The time for this request is over.", "Try again with a longer deadline.";
    StoreUnavailable = "DOM-GENERAL-006", Unavailable, "The region's database does not answer.", "Try again in a moment; nothing was changed.";
    Conflict = "DOM-GENERAL-007", Aborted, "Another change came first.", "Read the present state and try again.";
    IdempotencyMismatch = "DOM-GENERAL-008", AlreadyExists, "This idempotency key was used with another request.", "Use a fresh key for a new request, or send the first request unchanged.";
    AnswerLost = "DOM-GENERAL-009", Unavailable, "The database did not confirm the change; it may or may not have happened.", "Send the same request again with the same idempotency key.";
    ServiceSilent = "DOM-GENERAL-010", Unavailable, "The service does not answer.", "Check its address and that it runs, then try again.";
    ServerNotTrusted = "DOM-GENERAL-011", Unavailable, "The service answers and shows a certificate that is not trusted here.", "Check the address, the authority's file (ca) and that neither certificate has run out.";
    ConfigurationInvalid = "DOM-CONFIG-001", InvalidArgument, "The configuration has a value that does not fit.", "Correct the named key and start again.";
    ConfigurationUnknownKey = "DOM-CONFIG-002", InvalidArgument, "The configuration has a key nobody knows.", "Remove or correct the named key and start again.";
    ConfigurationMissing = "DOM-CONFIG-003", InvalidArgument, "The configuration lacks a value.", "Add the named key and start again.";
    ConfigurationUnsafe = "DOM-CONFIG-004", FailedPrecondition, "The configuration is not safe for production.", "Production needs PostgreSQL, HTTPS and a key of one AWS region alone: correct the named key.";
    DatabaseRoleUnsafe = "DOM-CONFIG-005", FailedPrecondition, "The database role or a table's protection is not as it must be.", "Run `domicile migrate` as the owner, and start the region with the service role.";
    SchemaOutdated = "DOM-CONFIG-006", FailedPrecondition, "The database schema is not of this release.", "Run `domicile migrate` and start again.";
    Unauthenticated = "DOM-IDENTITY-001", Unauthenticated, "You are not signed in, or your session has ended.", "Sign in and try again.";
    SignInFailed = "DOM-IDENTITY-002", Unauthenticated, "The e-mail address or the password is wrong.", "Check both and try again.";
    FreshSignInNeeded = "DOM-IDENTITY-003", FailedPrecondition, "This step needs your password again.", "Confirm your password, then repeat the step within five minutes.";
    Forbidden = "DOM-IDENTITY-004", PermissionDenied, "Your role does not allow this.", "Ask someone with the named role.";
    PasswordWeak = "DOM-IDENTITY-005", InvalidArgument, "The password is too short or too common.", "Choose at least 15 characters that are not a known password.";
    AccountExists = "DOM-IDENTITY-006", AlreadyExists, "An account with this e-mail address exists in this region.", "Sign in, or use another address.";
    InvitationInvalid = "DOM-IDENTITY-007", FailedPrecondition, "The invitation code is wrong, used or expired.", "Ask for a new invitation.";
    AgreementMissing = "DOM-IDENTITY-008", FailedPrecondition, "The practice has not signed this region's agreement.", "The practice's owner signs the agreement first.";
    PeerUnknown = "DOM-IDENTITY-009", PermissionDenied, "The certificate is not one this service talks to.", "Use the certificate of the region or coordinator named in the configuration.";
    NotFound = "DOM-RECORD-001", NotFound, "There is nothing by that id for you.", "Check the id, and that you are signed in as the right person.";
    VersionConflict = "DOM-RECORD-002", Aborted, "The item has changed since you read it.", "Read it again and repeat your change on the newest version.";
    ItemLocked = "DOM-RECORD-003", FailedPrecondition, "The item is signed and can no longer be changed.", "Write an addendum instead.";
    RecordFrozen = "DOM-RECORD-004", Unavailable, "The record is held still for a moment while it moves.", "Try again after the time given; nothing was lost.";
    RecordMoved = "DOM-RECORD-005", FailedPrecondition, "The record has moved to another region.", "Use the region given in the answer.";
    RecordArriving = "DOM-RECORD-006", Unavailable, "The record is arriving in its new region.", "Try again after the time given.";
    KindUnknown = "DOM-RECORD-007", InvalidArgument, "There is no such kind of item.", "Use one of the kinds in the documentation.";
    FhirInvalid = "DOM-RECORD-008", InvalidArgument, "The bundle is not a FHIR R4 transaction or collection bundle.", "Correct the named place and import it again; nothing was imported.";
    ObjectIncomplete = "DOM-RECORD-009", DataLoss, "The object's content does not match its length or digest.", "Upload it again.";
    ContentDamaged = "DOM-RECORD-010", DataLoss, "Stored content failed its integrity check.", "Tell the region's operator; the content was not handed out.";
    TransferNotAllowed = "DOM-TRANSFER-001", FailedPrecondition, "A transfer between these regions is not allowed.", "See the regions' allowed transfers.";
    TransferOpen = "DOM-TRANSFER-002", FailedPrecondition, "Another transfer of this record is still open.", "Wait for it to close, or withdraw from it.";
    TransferBlocked = "DOM-TRANSFER-003", FailedPrecondition, "Something named in the offer blocks this transfer.", "Clear the named blockers and ask again.";
    OfferNotReady = "DOM-TRANSFER-004", FailedPrecondition, "The offer is not ready yet.", "Wait until the transfer's state is preflighted.";
    OfferStale = "DOM-TRANSFER-005", FailedPrecondition, "The consent names another offer or an older text.", "Read the present offer and consent to exactly that.";
    ConsentMissing = "DOM-TRANSFER-006", FailedPrecondition, "There is no active consent for this transfer.", "The client gives consent first.";
    ConsentExpired = "DOM-TRANSFER-007", FailedPrecondition, "The consent or the offer has expired.", "Ask for the transfer again.";
    ConsentWithdrawn = "DOM-TRANSFER-008", Aborted, "The consent was withdrawn.", "Nothing more is sent; the record stays where it is.";
    ConsentMismatch = "DOM-TRANSFER-009", PermissionDenied, "The consent is not this client's, or is for another destination or attempt.", "The client gives consent for this very transfer.";
    TransferComplete = "DOM-TRANSFER-010", FailedPrecondition, "The transfer has completed and can no longer be withdrawn.", "Ask for a new transfer back if you wish.";
    TransferState = "DOM-TRANSFER-011", FailedPrecondition, "The transfer's state does not allow this step.", "Read the transfer's status.";
    TokenStale = "DOM-TRANSFER-012", FailedPrecondition, "The driver's fencing token is not current.", "Take the lease again.";
    AttemptStale = "DOM-TRANSFER-013", FailedPrecondition, "The message belongs to an attempt that is over.", "Drop the message.";
    StatementInvalid = "DOM-TRANSFER-014", InvalidArgument, "A statement's signature, lane or content does not fit.", "Check the pinned keys of both regions.";
    ChunkDamaged = "DOM-TRANSFER-015", DataLoss, "A travelling chunk failed its integrity check.", "The page is dropped and pulled again.";
    RootMismatch = "DOM-TRANSFER-016", DataLoss, "Source and destination do not hold the same rows.", "The differing rows are pulled again by themselves.";
    LegalHold = "DOM-TRANSFER-017", FailedPrecondition, "A legal hold covers this record.", "The hold is released first by whoever placed it.";
    PauseRefused = "DOM-TRANSFER-018", FailedPrecondition, "A transfer between frozen and adopted cannot be paused.", "Wait for a moment and ask again.";
    PeerSilent = "DOM-TRANSFER-019", Unavailable, "The other region does not answer.", "Nothing is lost; the transfer goes on by itself when it answers.";
    Collision = "DOM-TRANSFER-020", FailedPrecondition, "The destination holds another item under one of these ids.", "Tell the operators of both regions; the record stays where it is.";
    DestinationRefuses = "DOM-TRANSFER-021", FailedPrecondition, "The destination does not understand a kind or version in this record.", "Wait until the destination region is upgraded, then ask again.";
    BackupMissing = "DOM-TRANSFER-022", FailedPrecondition, "No backup covers the arrived record yet, so the source keeps its copy.", "Check the region's backup; the transfer goes on by itself.";
    EraseIncomplete = "DOM-TRANSFER-023", Internal, "The scan after the erasure still found something.", "The erasure is repeated by itself; if it stays, see the runbook.";
    KeyUnavailable = "DOM-KEY-001", Unavailable, "The key service does not answer.", "Try again in a moment; nothing was changed.";
    KeyDenied = "DOM-KEY-002", FailedPrecondition, "The key service refuses this key or context.", "Check the region's key and its policy.";
    KeyDestroyed = "DOM-KEY-003", FailedPrecondition, "The key for this content has been destroyed.", "The content cannot be read again.";
    KeyFileUnsafe = "DOM-KEY-004", FailedPrecondition, "The local key file can be read by others.", "Set its mode to 0600 and start again.";
    ObjectStoreUnavailable = "DOM-OBJECT-001", Unavailable, "The object store does not answer.", "Try again in a moment; nothing was changed.";
    ObjectExists = "DOM-OBJECT-002", AlreadyExists, "An object of this name exists with other content.", "Use a fresh name.";
    ObjectMissing = "DOM-OBJECT-003", NotFound, "There is no such object.", "Check the id.";
    ObjectStoreDenied = "DOM-OBJECT-004", FailedPrecondition, "The object store refuses this request.", "Check the bucket, its policy and the region's credentials.";
    AuditUnavailable = "DOM-AUDIT-001", Unavailable, "The audit log cannot be written, so the request was refused.", "Try again in a moment; nothing was changed or shown.";
    AuditCorrupt = "DOM-AUDIT-002", DataLoss, "The audit log does not verify.", "Export the bundle and run `domicile audit verify`; keep the database as it is.";
    DatabaseSetBack = "DOM-AUDIT-003", DataLoss, "The database does not go on from what this region last signed: it was restored from an older backup, or changed.", "Bring back the newest backup and replay its log; until then the region serves nothing.";
}
