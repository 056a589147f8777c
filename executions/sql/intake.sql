-- Take in executions: idempotency, execution, plan, steps, targets, queue entry or approval, and the first event, all in
-- the caller's one transaction. Called with one request by the API's submit and with up to 1,000 by its batch.
--
-- p_requests: [{"n": its number in the call, "tenant_id", "actor_id", "actor": name for events, "parent_id", "title",
--   "status": "queued" or "pending_approval", "plan_hash", "targets_hash", "action_class", "sla_class", "approval_level", "priority",
--   "environment", "reason", "tags": [..], "trace_id", "not_before", "execution_seconds", "step_seconds",
--   "approval_seconds", "max_attempts", "pool", "region", "key": idempotency key or null, "request_hash", "locks": [{"asset_id",
--   "exclusive"}], "document": the compiled plan}]; no key twice.
-- Returns [{"n", "id", "replay", "conflict", "status", "approval_level", "sla_class"}]: replay = the key was answered
-- before with this execution; conflict = it was, for another request.
--
-- Of two callers with one key exactly one gets it (safety/sql/idempotency.sql), and inserts in the same transaction.
--
-- The requests hold the plans, so they are large: they are read where they lie, by their place in p_requests, and never
-- put together anew. What is decided about each stands in arrays by the same place.
CREATE OR REPLACE FUNCTION executions_intake(p_requests jsonb, p_window interval, p_ageing interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_sequence regclass := pg_get_serial_sequence('executions_execution', 'id');
    v_ids bigint[];  -- by place: the number that the execution gets; null for a request that was answered before
    v_known jsonb;  -- the requests that were: [{"place", "id", "hash_matches"}]
    v_hits bigint[];
    v_place bigint;
    v_entries jsonb;
    -- The requests that have a key.
    v_places bigint[];
    v_tenants bigint[];
    v_keys text[];
    v_hashes text[];
BEGIN
    SELECT array_agg(nextval(v_sequence)) INTO v_ids FROM generate_series(1, jsonb_array_length(p_requests));

    SELECT array_agg(r.place), array_agg(r.tenant_id), array_agg(r.key), array_agg(r.request_hash)
      INTO v_places, v_tenants, v_keys, v_hashes
      FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (tenant_id bigint, key text, request_hash text))
           WITH ORDINALITY AS r(tenant_id, key, request_hash, place)
     WHERE r.key IS NOT NULL;
    IF v_places IS NOT NULL THEN
        SELECT array_agg(v_places[k.place]), jsonb_agg(jsonb_build_object(
                   'place', v_places[k.place], 'id', k.execution_id, 'hash_matches', k.hash_matches))
          INTO v_hits, v_known
          FROM idempotency_take(v_tenants, v_keys, v_hashes,
                   (SELECT array_agg(v_ids[p.place] ORDER BY p.n) FROM unnest(v_places) WITH ORDINALITY AS p(place, n)),
                   p_window) AS k;
        FOREACH v_place IN ARRAY coalesce(v_hits, '{}') LOOP
            v_ids[v_place] := NULL;
        END LOOP;
    END IF;

    IF array_length(array_remove(v_ids, NULL), 1) > 0 THEN
        PERFORM executions_insert(p_requests, v_ids);
        PERFORM executions_audit(p_requests, v_ids);
        SELECT jsonb_agg(jsonb_build_object(
                   'execution_id', v_ids[r.place], 'tenant_id', r.tenant_id, 'priority', r.priority,
                   'not_before', r.not_before, 'max_attempts', r.max_attempts, 'pool', r.pool, 'region', r.region,
                   'locks', r.locks))
          INTO v_entries
          FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (
                   tenant_id bigint, priority integer, not_before text, max_attempts integer, pool text, region text,
                   locks jsonb, status text))
               WITH ORDINALITY AS r(tenant_id, priority, not_before, max_attempts, pool, region, locks, status, place)
         WHERE r.status = 'queued' AND v_ids[r.place] IS NOT NULL;
        IF v_entries IS NOT NULL THEN
            PERFORM queue_enqueue(v_entries, p_ageing);
        END IF;
    END IF;

    RETURN (SELECT coalesce(jsonb_agg(answer), '[]'::jsonb) FROM (
        SELECT jsonb_build_object('n', r.n, 'id', v_ids[r.place], 'replay', false, 'conflict', false, 'status', r.status,
                                  'approval_level', r.approval_level, 'sla_class', r.sla_class)
          FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (n integer, status text, approval_level integer, sla_class text))
               WITH ORDINALITY AS r(n, status, approval_level, sla_class, place)
         WHERE v_ids[r.place] IS NOT NULL
         UNION ALL
        SELECT jsonb_build_object('n', p_requests -> (k.place - 1) -> 'n', 'id', k.id, 'replay', true,
                                  'conflict', NOT k.hash_matches, 'status', e.status,
                                  'approval_level', e.approval_level, 'sla_class', e.sla_class)
          FROM jsonb_to_recordset(coalesce(v_known, '[]')) AS k(place integer, id bigint, hash_matches boolean)
          LEFT JOIN executions_execution e ON e.id = k.id
    ) answers(answer));
END $$;


-- Write the rows of new executions. p_requests as above; p_ids: their numbers by place, null for what is not new.
-- One statement, so every request is read once; the foreign keys are looked at when the transaction ends.
CREATE OR REPLACE FUNCTION executions_insert(p_requests jsonb, p_ids bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_step_sequence regclass := pg_get_serial_sequence('executions_step', 'id');
BEGIN
    WITH request AS MATERIALIZED (
        SELECT p_ids[r.place] AS id, r.*
          FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (
                   tenant_id bigint, actor_id bigint, actor text, parent_id bigint, title text, status text, plan_hash text,
                   targets_hash text, action_class text, sla_class text, approval_level smallint, priority smallint, environment text,
                   reason text, tags text[], trace_id text, not_before timestamptz, execution_seconds integer,
                   step_seconds integer, max_attempts smallint, approval_seconds integer, document jsonb))
               WITH ORDINALITY AS r(
                   tenant_id, actor_id, actor, parent_id, title, status, plan_hash, targets_hash, action_class, sla_class,
                   approval_level, priority, environment, reason, tags, trace_id, not_before, execution_seconds, step_seconds,
                   max_attempts, approval_seconds, document, place)
         WHERE p_ids[r.place] IS NOT NULL
    ), execution AS (
        INSERT INTO executions_execution (id, tenant_id, actor_id, parent_id, title, status, plan_hash, targets_hash, action_class,
                sla_class, approval_level, priority, environment, reason, tags, trace_id, not_before, execution_seconds,
                step_seconds, max_attempts, approval_expires_at, last_seq)
        SELECT id, tenant_id, actor_id, parent_id, title, status, plan_hash, targets_hash, action_class, sla_class,
               approval_level, priority, environment, reason, tags, trace_id, not_before, execution_seconds, step_seconds, max_attempts,
               CASE WHEN status = 'pending_approval'
                    THEN statement_timestamp() + make_interval(secs => approval_seconds) END, 1
          FROM request
    ), asked AS (
        INSERT INTO executions_pendingapproval (execution_id) SELECT id FROM request WHERE status = 'pending_approval'
    ), plan AS (
        INSERT INTO executions_executionplan (execution_id, document) SELECT id, document FROM request
    ), planned AS MATERIALIZED (
        SELECT request.id AS execution_id, nextval(v_step_sequence) AS id, s.position, s.id AS key, s.tool, s.description,
               s.targets, s.waves
          FROM request,
               jsonb_to_recordset(request.document -> 'steps')
                   AS s(position integer, id text, tool text, description text, targets jsonb, waves integer[])
    ), step AS (
        INSERT INTO executions_step (id, execution_id, position, key, tool, description, waves)
        SELECT id, execution_id, position, key, tool, coalesce(description, ''), waves FROM planned
    ), target AS (
        INSERT INTO executions_steptarget (execution_id, step_id, position, asset_id, name)
        SELECT planned.execution_id, planned.id, t.ordinality, (t.target ->> 'asset_id')::bigint,
               coalesce(t.target ->> 'name', '')
          FROM planned
         CROSS JOIN LATERAL jsonb_array_elements(
                   CASE WHEN jsonb_array_length(planned.targets) = 0 THEN '[{}]'::jsonb ELSE planned.targets END)
                   WITH ORDINALITY AS t(target, ordinality)
    )
    INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
    SELECT id, 1, 'execution.submitted', actor, coalesce(reason, ''),
           jsonb_build_object('to', status, 'approval_level', approval_level, 'plan_hash', plan_hash)
      FROM request;
END $$;
