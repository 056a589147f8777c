-- The idempotency guard: take keys for new executions, or learn which executions they stand for. To be called in the
-- transaction that inserts the executions: key and execution are kept together or neither.
--
-- p_tenants, p_keys, p_hashes, p_ids: by place, the key, the hash of its request, and the execution that it is to stand
-- for from now; no key twice. A key is free when there is none, or when its time is over (minus infinity and the like: its
-- execution ended without success).
-- Returns the places whose key was not free, with the execution that it stands for and whether its request was the same;
-- all other places have been taken, for p_window by the database's clock.
--
-- Two callers with one key: both may miss in the first look, then INSERT .. ON CONFLICT makes the second wait for the
-- first to commit, finds a row that still blocks, changes nothing and returns nothing; the second look, a new statement
-- and so a new snapshot, reads the winner's execution. Should the winner roll back, the second inserts. Should the key have
-- become free between insert and look, the loop goes round again. Rows are inserted in the order of their keys, so
-- two batches cannot deadlock.
CREATE OR REPLACE FUNCTION idempotency_take(
    p_tenants bigint[], p_keys text[], p_hashes text[], p_ids bigint[], p_window interval
) RETURNS TABLE (place integer, execution_id bigint, hash_matches boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_left integer[];  -- places that are not decided yet
    v_hits integer[];
    v_place integer;
    v_executions bigint[];
    v_matches boolean[];
BEGIN
    SELECT array_agg(n) INTO v_left FROM generate_subscripts(p_keys, 1) AS n;
    WHILE v_left IS NOT NULL LOOP
        -- Look first: a hit costs no write, no lock, and no fsync.
        SELECT array_agg(r.place), array_agg(k.execution_id), array_agg(k.request_hash = p_hashes[r.place])
          INTO v_hits, v_executions, v_matches
          FROM unnest(v_left) AS r(place)
          JOIN safety_idempotencykey k ON k.tenant_id = p_tenants[r.place] AND k.key = p_keys[r.place]
         WHERE k.blocks_until > statement_timestamp();
        IF v_hits IS NOT NULL THEN
            RETURN QUERY SELECT * FROM unnest(v_hits, v_executions, v_matches);
            FOREACH v_place IN ARRAY v_hits LOOP
                p_ids[v_place] := NULL;
            END LOOP;
            SELECT array_agg(r.place) INTO v_left FROM unnest(v_left) AS r(place) WHERE p_ids[r.place] IS NOT NULL;
            EXIT WHEN v_left IS NULL;
        END IF;

        WITH taken AS (
            INSERT INTO safety_idempotencykey AS k (tenant_id, key, execution_id, request_hash, blocks_until)
            SELECT p_tenants[r.place], p_keys[r.place], p_ids[r.place], p_hashes[r.place], statement_timestamp() + p_window
              FROM unnest(v_left) AS r(place)
             ORDER BY p_tenants[r.place], p_keys[r.place]
                ON CONFLICT (tenant_id, key) DO UPDATE
               SET execution_id = excluded.execution_id, request_hash = excluded.request_hash,
                   blocks_until = excluded.blocks_until
             WHERE k.blocks_until <= statement_timestamp()
            RETURNING k.execution_id
        )
        SELECT array_agg(r.place) INTO v_left
          FROM unnest(v_left) AS r(place)
         WHERE p_ids[r.place] NOT IN (SELECT t.execution_id FROM taken t);
    END LOOP;
END $$;
