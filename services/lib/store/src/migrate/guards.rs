//! What the database itself refuses, whoever asks: changing a written version of an item (P40), changing
//! or removing what is in the audit log (P38), changing a consent's history (P16) or a statement.

/// PostgreSQL: functions that read the scope for the policies, and triggers.
pub(super) const POSTGRES: &str = "
CREATE FUNCTION domicile_subject() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(current_setting('app.subject', true), '')::uuid $$;
CREATE FUNCTION domicile_practitioner() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(current_setting('app.practitioner', true), '')::uuid $$;
CREATE FUNCTION domicile_account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(current_setting('app.account', true), '')::uuid $$;
CREATE FUNCTION domicile_lookup() RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT decode(NULLIF(current_setting('app.lookup', true), ''), 'hex') $$;
CREATE FUNCTION domicile_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(current_setting('app.now', true), '')::bigint $$;
CREATE FUNCTION domicile_transfers() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT COALESCE(current_setting('app.transfers', true) = 'all', false) $$;
CREATE FUNCTION domicile_system() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT COALESCE(current_setting('app.system', true) = 'on', false) $$;

CREATE FUNCTION domicile_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = TG_TABLE_NAME || ' cannot be changed';
END $$;

CREATE TRIGGER item_immutable BEFORE UPDATE ON item FOR EACH ROW WHEN (
    ROW(OLD.item_id, OLD.version, OLD.subject_id, OLD.revision, OLD.kind, OLD.schema, OLD.practice_id,
        OLD.practitioner_id, OLD.author_id, OLD.parent_id, OLD.occasion_id, OLD.object_id, OLD.occurred_at,
        OLD.starts_at, OLD.ends_at, OLD.signed_at, OLD.state, OLD.visibility, OLD.bytes, OLD.idem_key,
        OLD.idem_fingerprint, OLD.written_at)
    IS DISTINCT FROM
    ROW(NEW.item_id, NEW.version, NEW.subject_id, NEW.revision, NEW.kind, NEW.schema, NEW.practice_id,
        NEW.practitioner_id, NEW.author_id, NEW.parent_id, NEW.occasion_id, NEW.object_id, NEW.occurred_at,
        NEW.starts_at, NEW.ends_at, NEW.signed_at, NEW.state, NEW.visibility, NEW.bytes, NEW.idem_key,
        NEW.idem_fingerprint, NEW.written_at)
) EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER consent_event_immutable BEFORE UPDATE OR DELETE ON consent_event
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER statement_immutable BEFORE UPDATE OR DELETE ON statement
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER audit_outbox_immutable BEFORE UPDATE ON audit_outbox
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER audit_entry_immutable BEFORE UPDATE OR DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER audit_node_immutable BEFORE UPDATE OR DELETE ON audit_node
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER audit_checkpoint_kept BEFORE DELETE ON audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER audit_checkpoint_root BEFORE UPDATE ON audit_checkpoint
    FOR EACH ROW WHEN (OLD.size <> NEW.size OR OLD.root <> NEW.root) EXECUTE FUNCTION domicile_refuse();
CREATE TRIGGER audit_writer_immutable BEFORE UPDATE OR DELETE ON audit_writer
    FOR EACH ROW EXECUTE FUNCTION domicile_refuse();
";

/// PostgreSQL: functions inside which the caller's rights and policies hold. A session by its token's hash,
/// scope and query in one statement: every request begins with it, and a transaction would cost it three round
/// trips. Then what policies ask seldom (`protection`).
pub(super) const FUNCTIONS: &str = "
CREATE FUNCTION domicile_session(token bytea)
    RETURNS TABLE (account_id uuid, role text, practice_id uuid, subject_id uuid, last_seen_at bigint,
                   ends_at bigint, authenticated_at bigint)
    LANGUAGE plpgsql VOLATILE SECURITY INVOKER
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    AS $$ DECLARE opened session; BEGIN
        PERFORM set_config('app.lookup', encode(token, 'hex'), true);
        SELECT * INTO opened FROM session s WHERE s.token_hash = token AND s.ended_at IS NULL;
        IF NOT FOUND THEN RETURN; END IF;
        PERFORM set_config('app.account', opened.account_id::text, true);
        RETURN QUERY SELECT a.account_id, a.role, a.practice_id, a.subject_id, opened.last_seen_at,
                opened.ends_at, opened.authenticated_at
            FROM account a WHERE a.account_id = opened.account_id AND a.state = 'active';
    END $$;

CREATE FUNCTION domicile_granted(of_subject uuid, of_item uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE COST 10 SECURITY INVOKER
    AS $$ BEGIN
        RETURN EXISTS (SELECT 1 FROM access_grant g
            WHERE g.practitioner_id = domicile_practitioner() AND g.subject_id = of_subject
              AND (g.item_id IS NULL OR g.item_id = of_item)
              AND g.revoked_at IS NULL AND g.expires_at > domicile_now());
    END $$;
CREATE FUNCTION domicile_granted_any(of_subject uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE COST 10 SECURITY INVOKER
    AS $$ BEGIN
        RETURN EXISTS (SELECT 1 FROM access_grant g
            WHERE g.practitioner_id = domicile_practitioner() AND g.subject_id = of_subject
              AND g.revoked_at IS NULL AND g.expires_at > domicile_now());
    END $$;
CREATE FUNCTION domicile_staged_item(of_item uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE COST 10 SECURITY INVOKER
    AS $$ BEGIN
        RETURN EXISTS (SELECT 1 FROM staged_row s WHERE s.item_id = of_item);
    END $$;
CREATE FUNCTION domicile_staged_object(of_object uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE COST 10 SECURITY INVOKER
    AS $$ BEGIN
        RETURN EXISTS (SELECT 1 FROM staged_object s WHERE s.object_id = of_object);
    END $$;
CREATE FUNCTION domicile_entitled(of_subject uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE COST 10 SECURITY INVOKER
    AS $$ BEGIN
        RETURN EXISTS (SELECT 1 FROM tombstone_entitled t
            WHERE t.subject_id = of_subject AND t.hash = domicile_lookup());
    END $$;
";

/// SQLite: the same refusals. It has no roles, so whoever can write the file can drop the triggers; the
/// audit log's checkpoints are what shows it.
pub(super) const SQLITE: &str = "
CREATE TRIGGER item_immutable BEFORE UPDATE ON item WHEN
    OLD.item_id IS NOT NEW.item_id OR OLD.version IS NOT NEW.version OR OLD.subject_id IS NOT NEW.subject_id
    OR OLD.revision IS NOT NEW.revision OR OLD.kind IS NOT NEW.kind OR OLD.schema IS NOT NEW.schema
    OR OLD.practice_id IS NOT NEW.practice_id OR OLD.practitioner_id IS NOT NEW.practitioner_id
    OR OLD.author_id IS NOT NEW.author_id OR OLD.parent_id IS NOT NEW.parent_id
    OR OLD.occasion_id IS NOT NEW.occasion_id OR OLD.object_id IS NOT NEW.object_id
    OR OLD.occurred_at IS NOT NEW.occurred_at OR OLD.starts_at IS NOT NEW.starts_at
    OR OLD.ends_at IS NOT NEW.ends_at OR OLD.signed_at IS NOT NEW.signed_at OR OLD.state IS NOT NEW.state
    OR OLD.visibility IS NOT NEW.visibility OR OLD.bytes IS NOT NEW.bytes
    OR OLD.idem_key IS NOT NEW.idem_key OR OLD.idem_fingerprint IS NOT NEW.idem_fingerprint
    OR OLD.written_at IS NOT NEW.written_at
BEGIN SELECT RAISE(ABORT, 'item cannot be changed'); END;
CREATE TRIGGER consent_event_immutable BEFORE UPDATE ON consent_event
BEGIN SELECT RAISE(ABORT, 'consent_event cannot be changed'); END;
CREATE TRIGGER consent_event_kept BEFORE DELETE ON consent_event
BEGIN SELECT RAISE(ABORT, 'consent_event cannot be changed'); END;
CREATE TRIGGER statement_immutable BEFORE UPDATE ON statement
BEGIN SELECT RAISE(ABORT, 'statement cannot be changed'); END;
CREATE TRIGGER statement_kept BEFORE DELETE ON statement
BEGIN SELECT RAISE(ABORT, 'statement cannot be changed'); END;
CREATE TRIGGER audit_outbox_immutable BEFORE UPDATE ON audit_outbox
BEGIN SELECT RAISE(ABORT, 'audit_outbox cannot be changed'); END;
CREATE TRIGGER audit_entry_immutable BEFORE UPDATE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit_entry cannot be changed'); END;
CREATE TRIGGER audit_entry_kept BEFORE DELETE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit_entry cannot be changed'); END;
CREATE TRIGGER audit_node_immutable BEFORE UPDATE ON audit_node
BEGIN SELECT RAISE(ABORT, 'audit_node cannot be changed'); END;
CREATE TRIGGER audit_node_kept BEFORE DELETE ON audit_node
BEGIN SELECT RAISE(ABORT, 'audit_node cannot be changed'); END;
CREATE TRIGGER audit_checkpoint_kept BEFORE DELETE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'audit_checkpoint cannot be changed'); END;
CREATE TRIGGER audit_checkpoint_root BEFORE UPDATE ON audit_checkpoint
WHEN OLD.size <> NEW.size OR OLD.root <> NEW.root
BEGIN SELECT RAISE(ABORT, 'audit_checkpoint cannot be changed'); END;
CREATE TRIGGER audit_writer_immutable BEFORE UPDATE ON audit_writer
BEGIN SELECT RAISE(ABORT, 'audit_writer cannot be changed'); END;
CREATE TRIGGER audit_writer_kept BEFORE DELETE ON audit_writer
BEGIN SELECT RAISE(ABORT, 'audit_writer cannot be changed'); END;
";
