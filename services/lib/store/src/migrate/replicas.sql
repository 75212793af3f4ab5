-- Replicas of one region on one database: who is there, and whose keys each of them still has to drop.

CREATE TABLE replica (
    replica_id UUID NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

-- One row for each replica that has not dropped the keys yet; "about" is a record or a transfer.
CREATE TABLE key_drop (
    drop_id UUID NOT NULL,
    replica_id UUID NOT NULL,
    about UUID NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (drop_id, replica_id, about)
);
CREATE INDEX key_drop_replica ON key_drop (replica_id);

-- Rises when a replica that does not sequence the audit log needs a checkpoint now.
CREATE TABLE audit_demand (
    demand_id BIGINT NOT NULL PRIMARY KEY CHECK (demand_id = 1),
    asked BIGINT NOT NULL
);

-- Wrong passwords in a row, by the address's blind index or a digest of the account; one count for all replicas.
CREATE TABLE sign_in_try (
    tried BYTEA NOT NULL PRIMARY KEY CHECK (length(tried) = 32),
    failures BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE INDEX sign_in_try_age ON sign_in_try (last_at);

-- Which file holds an object that came with a transfer: each sealing writes a fresh one.
ALTER TABLE object ADD COLUMN copy_id UUID;
