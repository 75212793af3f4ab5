//! Every event the audit log can hold: a closed list with stable numbers (P37).

macro_rules! events {
    ($($name:ident = $number:literal, $text:literal, $action:ident;)*) => {
        /// What happened. Numbers are written into the log: they are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventType {
            $( #[doc = concat!("`", $text, "`")] $name, )*
        }

        impl EventType {
            /// Every event.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable number, as the log holds it.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number),* }
            }

            /// The name, as an RPC declares it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What kind of access it is.
            #[must_use]
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action),* }
            }
        }
    };
}

events! {
    SystemStart = 1, "system.start", Execute;
    SystemStop = 2, "system.stop", Execute;
    ConfigRefused = 3, "config.refused", Execute;
    TlsPeerRefused = 4, "tls.peer_refused", Execute;

    AuditVoid = 100, "audit.void", Execute;
    AuditCheckpointPeer = 101, "audit.checkpoint_peer", Create;
    AuditRead = 102, "audit.read", Read;
    AuditOwnRead = 103, "audit.own.read", Read;
    AuditExport = 104, "audit.export", Read;

    IdentityBootstrap = 200, "identity.bootstrap", Create;
    IdentityPracticeCreate = 201, "identity.practice_create", Create;
    IdentityAgreementSign = 202, "identity.agreement_sign", Update;
    IdentityPractitionerCreate = 203, "identity.practitioner_create", Create;
    IdentityClientCreate = 204, "identity.client_create", Create;
    IdentityAccountActivate = 205, "identity.account_activate", Update;
    IdentitySignIn = 206, "identity.sign_in", Execute;
    IdentitySignOut = 207, "identity.sign_out", Execute;
    IdentityReauthenticate = 208, "identity.reauthenticate", Execute;
    IdentityPasswordChange = 209, "identity.password_change", Update;
    IdentityWhoAmI = 210, "identity.who_am_i", Read;
    IdentitySessionEnded = 211, "identity.session_ended", Execute;
    IdentityEnrolmentAccept = 212, "identity.enrolment_accept", Create;
    IdentityEnrolmentRead = 213, "identity.enrolment_read", Read;

    RecordItemRead = 300, "record.item.read", Read;
    RecordItemList = 301, "record.item.list", Read;
    RecordItemWrite = 302, "record.item.write", Update;
    RecordSummaryRead = 303, "record.summary.read", Read;
    RecordObjectRead = 304, "record.object.read", Read;
    RecordObjectWrite = 305, "record.object.write", Create;
    RecordImport = 306, "record.import", Create;
    RecordExport = 307, "record.export", Read;
    RecordCareOpen = 308, "record.care.open", Create;
    RecordCareClose = 309, "record.care.close", Update;
    RecordGrantGive = 310, "record.grant.give", Create;
    RecordGrantRevoke = 311, "record.grant.revoke", Update;
    RecordGrantList = 312, "record.grant.list", Read;
    RecordHoldSet = 313, "record.hold.set", Update;
    RecordPurged = 314, "record.purged", Delete;

    ConsentGiven = 400, "consent.given", Create;
    ConsentWithdrawn = 401, "consent.withdrawn", Update;
    ConsentList = 402, "consent.list", Read;
    ConsentExpired = 403, "consent.expired", Update;
    ConsentCompleted = 404, "consent.completed", Update;

    TransferRequested = 500, "transfer.requested", Create;
    TransferPreflighted = 501, "transfer.preflighted", Execute;
    TransferConsented = 502, "transfer.consented", Execute;
    TransferCopying = 503, "transfer.copying", Execute;
    TransferFrozen = 504, "transfer.frozen", Execute;
    TransferUnfrozen = 505, "transfer.unfrozen", Execute;
    TransferStaged = 506, "transfer.staged", Execute;
    TransferReleased = 507, "transfer.released", Execute;
    TransferAdopted = 508, "transfer.adopted", Execute;
    TransferRekeyed = 509, "transfer.rekeyed", Execute;
    TransferShredded = 510, "transfer.shredded", Delete;
    TransferAborting = 511, "transfer.aborting", Execute;
    TransferAborted = 512, "transfer.aborted", Execute;
    TransferClosed = 513, "transfer.closed", Execute;
    TransferExpired = 514, "transfer.expired", Execute;
    TransferPreflight = 520, "transfer.preflight", Read;
    TransferOfferRead = 521, "transfer.offer.read", Read;
    TransferStatusRead = 522, "transfer.status.read", Read;
    TransferList = 523, "transfer.list", Read;
    TransferReceiptRead = 524, "transfer.receipt.read", Read;
    TransferPaused = 525, "transfer.paused", Update;
    TransferResumed = 526, "transfer.resumed", Update;
    TransferCancelled = 527, "transfer.cancelled", Update;
    TransferLease = 528, "transfer.lease", Execute;
    TransferStep = 529, "transfer.step", Execute;
    TransferPageSent = 530, "transfer.page.sent", Read;
    TransferObjectSent = 531, "transfer.object.sent", Read;
    TransferReleaseSent = 532, "transfer.release.sent", Read;

    KeyCreated = 600, "key.created", Create;
    KeyDestroyed = 601, "key.destroyed", Delete;

    RetentionExpire = 700, "retention.expire", Delete;
}

impl EventType {
    /// Finds an event by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.name() == name)
    }

    /// Finds an event by its number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.number() == number)
    }
}

/// What kind of access an event is, as FHIR AuditEvent.action has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Something new.
    Create,
    /// A look.
    Read,
    /// A change.
    Update,
    /// An end.
    Delete,
    /// Anything else.
    Execute,
}

impl Action {
    const ALL: [Self; 5] = [Self::Create, Self::Read, Self::Update, Self::Delete, Self::Execute];

    /// The number in the log.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Create => 1,
            Self::Read => 2,
            Self::Update => 3,
            Self::Delete => 4,
            Self::Execute => 5,
        }
    }

    /// Finds an action by its number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.number() == number)
    }

    /// The name people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Execute => "execute",
        }
    }
}

/// Why somebody acted. There is no purpose of training, sale or marketing (P5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Caring for the client.
    Treatment,
    /// Running the practice or the region.
    Operations,
    /// The client's own wish.
    ClientRequest,
    /// Moving the record between regions.
    Transfer,
    /// Keeping people out who do not belong.
    Security,
    /// Checking that all of this was done rightly.
    Oversight,
}

impl Purpose {
    const ALL: [Self; 6] = [
        Self::Treatment,
        Self::Operations,
        Self::ClientRequest,
        Self::Transfer,
        Self::Security,
        Self::Oversight,
    ];

    /// The number in the log.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Treatment => 1,
            Self::Operations => 2,
            Self::ClientRequest => 3,
            Self::Transfer => 4,
            Self::Security => 5,
            Self::Oversight => 6,
        }
    }

    /// Finds a purpose by its number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.number() == number)
    }

    /// The name people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Treatment => "treatment",
            Self::Operations => "operations",
            Self::ClientRequest => "client_request",
            Self::Transfer => "transfer",
            Self::Security => "security",
            Self::Oversight => "oversight",
        }
    }
}
