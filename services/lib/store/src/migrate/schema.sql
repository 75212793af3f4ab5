-- The region's data. One text for both databases: on SQLite the types UUID, BYTEA, BIGINT and BOOLEAN
-- become BLOB, BLOB, INTEGER and INTEGER, and tables are STRICT. Times are microseconds since the epoch.

CREATE TABLE practice (
    practice_id UUID NOT NULL PRIMARY KEY,
    name_sealed BYTEA NOT NULL,
    home_region TEXT NOT NULL,
    data_role TEXT NOT NULL CHECK (data_role IN ('controller', 'operator')),
    agreement_version TEXT,
    agreement_at BIGINT,
    agreement_by UUID,
    created_at BIGINT NOT NULL
);

CREATE TABLE enrolment (
    practice_id UUID NOT NULL,
    origin TEXT NOT NULL,
    content BYTEA NOT NULL,
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    accepted_at BIGINT NOT NULL,
    PRIMARY KEY (practice_id, origin)
);

CREATE TABLE account (
    account_id UUID NOT NULL PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('client', 'practitioner', 'practice_admin', 'operator', 'compliance')),
    practice_id UUID,
    subject_id UUID,
    email_index BYTEA CHECK (length(email_index) = 32),
    email_sealed BYTEA,
    name_sealed BYTEA,
    password_phc TEXT,
    invite_hash BYTEA CHECK (length(invite_hash) = 32),
    invite_expires BIGINT,
    state TEXT NOT NULL CHECK (state IN ('invited', 'active', 'closed')),
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    CHECK ((role = 'client') = (subject_id IS NOT NULL))
);
CREATE UNIQUE INDEX account_email ON account (email_index);
CREATE UNIQUE INDEX account_subject ON account (subject_id);
CREATE UNIQUE INDEX account_invite ON account (invite_hash);
CREATE INDEX account_practice ON account (practice_id);

CREATE TABLE session (
    token_hash BYTEA NOT NULL PRIMARY KEY CHECK (length(token_hash) = 32),
    account_id UUID NOT NULL,
    subject_id UUID,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX session_account ON session (account_id);
CREATE INDEX session_subject ON session (subject_id);

CREATE TABLE residency (
    subject_id UUID NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL CHECK (epoch >= 1),
    standing TEXT NOT NULL CHECK (standing IN ('Active', 'Frozen', 'Incoming', 'Released', 'Departed')),
    moved_to TEXT,
    revision BIGINT NOT NULL,
    control_revision BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    freeze_number BIGINT NOT NULL,
    region_choice TEXT NOT NULL CHECK (region_choice IN ('client', 'practice_default')),
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE tombstone_entitled (
    subject_id UUID NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('practice', 'session', 'account')),
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (subject_id, kind, hash)
);
CREATE INDEX tombstone_entitled_hash ON tombstone_entitled (hash);

CREATE TABLE item (
    item_id UUID NOT NULL,
    version BIGINT NOT NULL CHECK (version >= 1),
    subject_id UUID NOT NULL,
    revision BIGINT NOT NULL CHECK (revision >= 1),
    current BOOLEAN NOT NULL,
    kind TEXT NOT NULL,
    schema BIGINT NOT NULL,
    practice_id UUID,
    practitioner_id UUID,
    author_id UUID NOT NULL,
    parent_id UUID,
    occasion_id UUID,
    object_id UUID,
    occurred_at BIGINT NOT NULL,
    starts_at BIGINT,
    ends_at BIGINT,
    signed_at BIGINT,
    retain_until BIGINT,
    state TEXT NOT NULL,
    visibility TEXT NOT NULL CHECK (visibility IN ('shared', 'practitioner', 'client_private', 'psychotherapy')),
    bytes BIGINT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    key_version BIGINT NOT NULL,
    sealed BYTEA,
    idem_key TEXT,
    idem_fingerprint BYTEA CHECK (length(idem_fingerprint) = 32),
    written_at BIGINT NOT NULL,
    PRIMARY KEY (item_id, version)
);
CREATE UNIQUE INDEX item_revision ON item (subject_id, revision);
CREATE UNIQUE INDEX item_current ON item (item_id) WHERE current;
CREATE UNIQUE INDEX item_idempotency ON item (subject_id, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX item_occurred ON item (subject_id, occurred_at, item_id) WHERE current;
CREATE INDEX item_calendar ON item (practice_id, practitioner_id, starts_at) WHERE current AND starts_at IS NOT NULL;
CREATE INDEX item_parent ON item (parent_id, occurred_at) WHERE current;
CREATE INDEX item_retain ON item (retain_until);

CREATE TABLE object (
    object_id UUID NOT NULL PRIMARY KEY,
    subject_id UUID NOT NULL,
    item_id UUID,
    practice_id UUID,
    length BIGINT NOT NULL,
    chunks BIGINT NOT NULL,
    key_version BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'complete')),
    travelling BOOLEAN NOT NULL,
    transfer_id UUID,
    registered_at BIGINT NOT NULL
);
CREATE INDEX object_subject ON object (subject_id);
CREATE INDEX object_item ON object (item_id);

CREATE TABLE care_relationship (
    subject_id UUID NOT NULL,
    practitioner_id UUID NOT NULL,
    practice_id UUID NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (subject_id, practitioner_id, started_at)
);
CREATE UNIQUE INDEX care_relationship_open ON care_relationship (practitioner_id, subject_id) WHERE ended_at IS NULL;

CREATE TABLE access_grant (
    grant_id UUID NOT NULL PRIMARY KEY,
    subject_id UUID NOT NULL,
    practitioner_id UUID NOT NULL,
    item_id UUID,
    given_by UUID NOT NULL,
    given_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX access_grant_subject ON access_grant (subject_id);
CREATE INDEX access_grant_practitioner ON access_grant (practitioner_id) WHERE revoked_at IS NULL;

CREATE TABLE legal_hold (
    subject_id UUID NOT NULL,
    reference TEXT NOT NULL,
    placed_by UUID NOT NULL,
    placed_at BIGINT NOT NULL,
    released_at BIGINT,
    PRIMARY KEY (subject_id, reference, placed_at)
);

CREATE TABLE consent (
    consent_id UUID NOT NULL PRIMARY KEY,
    subject_id UUID NOT NULL,
    account_id UUID NOT NULL,
    purpose TEXT NOT NULL,
    transfer_id UUID,
    attempt BIGINT NOT NULL,
    source TEXT NOT NULL,
    destination TEXT,
    offer_digest BYTEA CHECK (length(offer_digest) = 32),
    consent_digest BYTEA NOT NULL CHECK (length(consent_digest) = 32),
    notice_version TEXT NOT NULL,
    locale TEXT NOT NULL,
    notice_digest BYTEA NOT NULL CHECK (length(notice_digest) = 32),
    status TEXT NOT NULL CHECK (status IN ('active', 'withdrawn', 'expired', 'completed')),
    given_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    locator BOOLEAN NOT NULL
);
CREATE INDEX consent_subject ON consent (subject_id);
CREATE INDEX consent_transfer ON consent (transfer_id);

CREATE TABLE consent_event (
    consent_id UUID NOT NULL,
    sequence BIGINT NOT NULL CHECK (sequence >= 1),
    subject_id UUID NOT NULL,
    event TEXT NOT NULL CHECK (event IN ('given', 'withdrawn', 'expired', 'completed')),
    actor UUID,
    role TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (consent_id, sequence)
);
CREATE INDEX consent_event_subject ON consent_event (subject_id);

CREATE TABLE forwarding_locator (
    email_index BYTEA NOT NULL PRIMARY KEY CHECK (length(email_index) = 32),
    region TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE transfer (
    transfer_id UUID NOT NULL PRIMARY KEY,
    attempt BIGINT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('source', 'destination')),
    subject_id UUID,
    account_id UUID,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    open BOOLEAN NOT NULL,
    abort_reason TEXT,
    paused BOOLEAN NOT NULL,
    stuck_cause TEXT,
    freeze_number BIGINT NOT NULL,
    freeze_deadline BIGINT,
    epoch BIGINT,
    root BYTEA CHECK (length(root) = 32),
    consent_id UUID,
    token BIGINT NOT NULL,
    lease_holder UUID,
    lease_until BIGINT,
    requested_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    deadline BIGINT,
    detail TEXT NOT NULL,
    offer TEXT,
    key_release BYTEA,
    idem_key TEXT
);
CREATE UNIQUE INDEX transfer_attempt ON transfer (subject_id, attempt) WHERE role = 'source';
CREATE UNIQUE INDEX transfer_open ON transfer (subject_id)
    WHERE open AND subject_id IS NOT NULL AND state <> 'aborting';
CREATE UNIQUE INDEX transfer_idempotency ON transfer (subject_id, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX transfer_unfinished ON transfer (transfer_id) WHERE open;
CREATE INDEX transfer_by_time ON transfer (requested_at);

CREATE TABLE statement (
    transfer_id UUID NOT NULL,
    origin TEXT NOT NULL,
    sequence BIGINT NOT NULL CHECK (sequence >= 1),
    attempt BIGINT NOT NULL,
    step TEXT NOT NULL,
    statement BYTEA NOT NULL,
    body BYTEA NOT NULL,
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    at BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, origin, sequence)
);

CREATE TABLE sent_row (
    transfer_id UUID NOT NULL,
    item_id UUID NOT NULL,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    bytes BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, item_id, version)
);

CREATE INDEX sent_row_revision ON sent_row (transfer_id, revision);

CREATE TABLE sent_object (
    transfer_id UUID NOT NULL,
    object_id UUID NOT NULL,
    chunks BIGINT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    length BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, object_id)
);

CREATE TABLE staged_page (
    transfer_id UUID NOT NULL,
    page_id UUID NOT NULL PRIMARY KEY,
    header BYTEA NOT NULL,
    salt BYTEA NOT NULL,
    commitment BYTEA NOT NULL
);
CREATE INDEX staged_page_transfer ON staged_page (transfer_id);

CREATE TABLE staged_row (
    transfer_id UUID NOT NULL,
    item_id UUID NOT NULL,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    page_id UUID NOT NULL,
    position BIGINT NOT NULL,
    last BOOLEAN NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    sealed_header BYTEA NOT NULL,
    sealed_payload BYTEA NOT NULL,
    object_id UUID,
    PRIMARY KEY (transfer_id, item_id, version)
);
CREATE INDEX staged_row_page ON staged_row (transfer_id, page_id, position);
CREATE INDEX staged_row_revision ON staged_row (transfer_id, revision);
CREATE INDEX staged_row_object ON staged_row (transfer_id, object_id) WHERE object_id IS NOT NULL;
CREATE INDEX staged_row_item ON staged_row (item_id, version);

CREATE TABLE staged_object (
    transfer_id UUID NOT NULL,
    object_id UUID NOT NULL,
    header BYTEA NOT NULL,
    salt BYTEA NOT NULL,
    commitment BYTEA NOT NULL,
    chunks BIGINT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    length BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, object_id)
);

CREATE TABLE transfer_checkpoint (
    transfer_id UUID NOT NULL,
    note TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, note)
);

CREATE TABLE transfer_tombstone (
    transfer_id UUID NOT NULL PRIMARY KEY,
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE job_lease (
    name TEXT NOT NULL PRIMARY KEY,
    holder UUID NOT NULL,
    token BIGINT NOT NULL,
    until BIGINT NOT NULL
);

CREATE TABLE audit_outbox (
    event_id UUID NOT NULL PRIMARY KEY,
    writer UUID NOT NULL,
    writer_epoch BIGINT NOT NULL,
    writer_sequence BIGINT NOT NULL,
    subject_pseudonym BYTEA CHECK (length(subject_pseudonym) = 16),
    transfer_id UUID,
    entry BYTEA NOT NULL,
    at BIGINT NOT NULL
);
CREATE UNIQUE INDEX audit_outbox_sequence ON audit_outbox (writer, writer_epoch, writer_sequence);

CREATE TABLE audit_entry (
    idx BIGINT NOT NULL PRIMARY KEY CHECK (idx >= 0),
    event_id UUID NOT NULL,
    subject_pseudonym BYTEA CHECK (length(subject_pseudonym) = 16),
    transfer_id UUID,
    entry BYTEA NOT NULL
);
CREATE UNIQUE INDEX audit_entry_event ON audit_entry (event_id);
CREATE INDEX audit_entry_subject ON audit_entry (subject_pseudonym, idx) WHERE subject_pseudonym IS NOT NULL;
CREATE INDEX audit_entry_transfer ON audit_entry (transfer_id, idx) WHERE transfer_id IS NOT NULL;

CREATE TABLE audit_node (
    level BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, idx)
);

CREATE TABLE audit_checkpoint (
    size BIGINT NOT NULL PRIMARY KEY,
    root BYTEA NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL,
    signed_at BIGINT NOT NULL
);

CREATE TABLE audit_writer (
    writer UUID NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    started_at BIGINT NOT NULL
);
