-- The audit's functions. Records are only inserted; a sealer chains them afterwards, in the order in which they became
-- visible. Chaining at insert would make every submit of a tenant wait for the one before it to commit.
--
-- What writes seals and the outbox runs with the rights of the owner of these functions (SECURITY DEFINER): the role of
-- web and workers can insert records and call this, and has no right on seals and outbox but to read them. The
-- migration that creates the functions pins their search_path.

-- Every insert notes its records for the sealer, in the same transaction and by one statement however many they are.
CREATE OR REPLACE FUNCTION safety_audit_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO safety_auditoutbox (record_id) SELECT id FROM inserted;
    RETURN NULL;
END $$;


-- The second line of defence, for roles that have the right to change the tables; the first is to have no such right.
-- The owner's own retention (`manage.py prune_audit`) says so by a setting, as it might as well disable the triggers.
CREATE OR REPLACE FUNCTION safety_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' AND current_setting('opsconductor.audit_maintenance', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'The audit is append-only: % of % is refused.', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;


-- The text whose SHA-256 is the hash of a record's seal. safety/audit/chain.py builds the same text in Python, so that
-- an export can be verified without a database; a test compares the two.
CREATE OR REPLACE FUNCTION safety_audit_text(r safety_auditrecord, p_number bigint, p_previous text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array(
        1, coalesce(r.tenant_id, 0), p_number, p_previous, r.id,
        to_char(r.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        r.actor, r.actor_id, r.action, r.object_type, r.object_id, r.object_name, r.allowed, r.code, r.reason,
        r.door, r.address, r.data)::text
$$;


-- Seal up to p_most records that wait; return how many, or NULL when somebody else is sealing and p_wait is false.
--
-- One sealer at a time (the advisory lock, held to the end of the transaction): the next one's statements begin after
-- this one has committed, so they see its last number, and each outbox row is taken once. Were the lock ever passed by
-- (a caller in REPEATABLE READ has an older view), the unique (chain, number) would refuse the second. A caller that
-- dies gives everything back: outbox rows and seals are of one transaction. A record whose transaction is still open is
-- not seen, and gets a later number than one that was inserted after it and committed before it.
CREATE OR REPLACE FUNCTION safety_audit_seal(p_most integer, p_wait boolean) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_lock CONSTANT bigint := 7089068226731566188;  -- any number that nothing else here uses
    v_record safety_auditrecord;
    v_chain bigint;
    v_number bigint;
    v_hash text;
    v_sealed integer := 0;
BEGIN
    IF p_wait THEN
        PERFORM pg_advisory_xact_lock(v_lock);
    ELSIF NOT pg_try_advisory_xact_lock(v_lock) THEN
        RETURN NULL;
    END IF;
    FOR v_record IN
        WITH taken AS (
            -- One whose record is gone is left where it is: verify_audit tells of it.
            DELETE FROM safety_auditoutbox WHERE record_id IN (
                SELECT o.record_id FROM safety_auditoutbox o JOIN safety_auditrecord r ON r.id = o.record_id
                 ORDER BY o.record_id LIMIT p_most)
            RETURNING record_id
        )
        SELECT r.* FROM taken JOIN safety_auditrecord r ON r.id = taken.record_id
         ORDER BY coalesce(r.tenant_id, 0), r.id
    LOOP
        IF coalesce(v_record.tenant_id, 0) IS DISTINCT FROM v_chain THEN
            v_chain := coalesce(v_record.tenant_id, 0);
            v_number := NULL;
            SELECT number, hash INTO v_number, v_hash
              FROM safety_auditseal WHERE chain = v_chain ORDER BY number DESC LIMIT 1;
            IF v_number IS NULL THEN
                v_number := 0;
                v_hash := repeat('0', 64);
            END IF;
        END IF;
        v_number := v_number + 1;
        v_hash := encode(sha256(convert_to(safety_audit_text(v_record, v_number, v_hash), 'UTF8')), 'hex');
        INSERT INTO safety_auditseal (record_id, chain, number, hash)
        VALUES (v_record.id, v_chain, v_number, v_hash);
        v_sealed := v_sealed + 1;
    END LOOP;
    RETURN v_sealed;
END $$;
