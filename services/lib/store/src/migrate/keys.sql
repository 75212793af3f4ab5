-- Wrapped keys, apart from the data: their own file on SQLite, their own schema and role on PostgreSQL.

CREATE TABLE practice_key (
    practice_id UUID NOT NULL,
    version BIGINT NOT NULL CHECK (version >= 1),
    wrapped BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (practice_id, version)
);

-- The nil practice is the client's own.
CREATE TABLE record_key (
    subject_id UUID NOT NULL,
    practice_id UUID NOT NULL,
    version BIGINT NOT NULL CHECK (version >= 1),
    wrapped BYTEA NOT NULL,
    uses BIGINT NOT NULL CHECK (uses >= 0),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (subject_id, practice_id, version)
);

CREATE TABLE subject_secret (
    subject_id UUID NOT NULL,
    purpose TEXT NOT NULL,
    wrapped BYTEA NOT NULL,
    PRIMARY KEY (subject_id, purpose)
);

CREATE TABLE transfer_key (
    transfer_id UUID NOT NULL,
    purpose TEXT NOT NULL,
    wrapped BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, purpose)
);

CREATE TABLE region_key (
    purpose TEXT NOT NULL PRIMARY KEY,
    wrapped BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
