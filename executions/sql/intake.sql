-- Take in executions: idempotency, execution, plan, steps, targets, queue entry or approval, and the first event, all in
-- the caller's one transaction. Called with one request by the API's submit and with up to 1,000 by its batch.
--
-- p_requests: [{"n": its number in the call, "tenant_id", "actor_id", "actor": name for events, "parent_id", "title",
--   "status": "queued" or "pending_approval", "plan_hash", "action_class", "sla_class", "approval_level", "priority",
--   "environment", "reason", "tags": [..], "trace_id", "not_before", "execution_seconds", "step_seconds",
--   "approval_seconds", "max_attempts", "key": idempotency key or null, "request_hash", "locks": [{"asset_id",
--   "exclusive"}], "document": the compiled plan}]; no key twice.
-- Returns [{"n", "id", "replay", "conflict", "status", "approval_level", "sla_class"}]: replay = the key was answered
-- before with this execution; conflict = it was, for another request.
--
-- Two callers with one key: both may miss in the first look, then INSERT .. ON CONFLICT makes the second wait for the
-- first to commit, finds a row that still blocks, changes nothing and returns nothing; the second look, a new statement,
-- reads the winner's execution. Rows are inserted in the order of their keys, so two batches cannot deadlock.
CREATE OR REPLACE FUNCTION executions_intake(p_requests jsonb, p_window interval, p_ageing interval) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_all jsonb := p_requests;
    v_new jsonb;
    v_known jsonb := '[]'::jsonb;
    v_round jsonb;
    v_count integer;
BEGIN
    -- Every request gets the number that its execution will have, should it be new.
    SELECT jsonb_agg(r || jsonb_build_object('id', nextval(pg_get_serial_sequence('executions_execution', 'id'))))
      INTO v_all FROM jsonb_array_elements(p_requests) r;
    v_new := v_all;

    IF EXISTS (SELECT FROM jsonb_array_elements(v_all) r WHERE r ->> 'key' IS NOT NULL) THEN
        v_new := (SELECT jsonb_agg(r) FROM jsonb_array_elements(v_all) r WHERE r ->> 'key' IS NULL);
        v_all := (SELECT jsonb_agg(r) FROM jsonb_array_elements(v_all) r WHERE r ->> 'key' IS NOT NULL);
        WHILE v_all IS NOT NULL LOOP
            -- Look first: a hit costs no write.
            SELECT jsonb_agg(jsonb_build_object('n', r.n, 'id', k.execution_id, 'hash_matches',
                                                k.request_hash = r.request_hash))
              INTO v_round
              FROM jsonb_to_recordset(v_all) AS r(n integer, tenant_id bigint, key text, request_hash text)
              JOIN safety_idempotencykey k ON k.tenant_id = r.tenant_id AND k.key = r.key
             WHERE k.blocks_until > statement_timestamp();
            v_known := v_known || coalesce(v_round, '[]'::jsonb);
            v_all := (SELECT jsonb_agg(r) FROM jsonb_array_elements(v_all) r
                       WHERE r -> 'n' NOT IN (SELECT k -> 'n' FROM jsonb_array_elements(v_known) k));
            EXIT WHEN v_all IS NULL;

            WITH taken AS (
                INSERT INTO safety_idempotencykey AS k (tenant_id, key, execution_id, request_hash, blocks_until)
                SELECT tenant_id, key, id, request_hash, statement_timestamp() + p_window
                  FROM jsonb_to_recordset(v_all) AS r(tenant_id bigint, key text, id bigint, request_hash text)
                 ORDER BY tenant_id, key
                    ON CONFLICT (tenant_id, key) DO UPDATE
                   SET execution_id = excluded.execution_id, request_hash = excluded.request_hash,
                       blocks_until = excluded.blocks_until
                 WHERE k.blocks_until <= statement_timestamp()
                RETURNING execution_id
            )
            SELECT jsonb_agg(r) FILTER (WHERE t.execution_id IS NOT NULL), jsonb_agg(r) FILTER (WHERE t.execution_id IS NULL)
              INTO v_round, v_all
              FROM jsonb_array_elements(v_all) r LEFT JOIN taken t ON t.execution_id = (r ->> 'id')::bigint;
            v_new := coalesce(v_new, '[]'::jsonb) || coalesce(v_round, '[]'::jsonb);
        END LOOP;
        IF v_new = '[]'::jsonb THEN
            v_new := NULL;
        END IF;
    END IF;

    IF v_new IS NOT NULL THEN
        PERFORM executions_insert(v_new);
        v_round := (SELECT jsonb_agg(jsonb_build_object('execution_id', r -> 'id', 'tenant_id', r -> 'tenant_id',
                        'priority', r -> 'priority', 'not_before', r -> 'not_before', 'max_attempts',
                        r -> 'max_attempts', 'locks', r -> 'locks'))
                      FROM jsonb_array_elements(v_new) r WHERE r ->> 'status' = 'queued');
        IF v_round IS NOT NULL THEN
            PERFORM queue_enqueue(v_round, p_ageing);
        END IF;
    END IF;

    RETURN (SELECT coalesce(jsonb_agg(answer), '[]'::jsonb) FROM (
        SELECT jsonb_build_object('n', r.n, 'id', r.id, 'replay', false, 'conflict', false, 'status', r.status,
                                  'approval_level', r.approval_level, 'sla_class', r.sla_class)
          FROM jsonb_to_recordset(coalesce(v_new, '[]'::jsonb))
               AS r(n integer, id bigint, status text, approval_level integer, sla_class text)
         UNION ALL
        SELECT jsonb_build_object('n', k.n, 'id', k.id, 'replay', true, 'conflict', NOT k.hash_matches, 'status', e.status,
                                  'approval_level', e.approval_level, 'sla_class', e.sla_class)
          FROM jsonb_to_recordset(v_known) AS k(n integer, id bigint, hash_matches boolean)
          LEFT JOIN executions_execution e ON e.id = k.id
    ) answers(answer));
END $$;


-- Write the rows of new executions whose ids are chosen. p_requests as above, each with "id".
CREATE OR REPLACE FUNCTION executions_insert(p_requests jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO executions_execution (id, tenant_id, actor_id, parent_id, title, status, plan_hash, action_class, sla_class,
            approval_level, priority, environment, reason, tags, trace_id, not_before, execution_seconds, step_seconds,
            max_attempts, approval_expires_at, last_seq)
    SELECT id, tenant_id, actor_id, parent_id, title, status, plan_hash, action_class, sla_class, approval_level, priority,
           environment, reason, tags, trace_id, not_before, execution_seconds, step_seconds, max_attempts,
           CASE WHEN status = 'pending_approval'
                THEN statement_timestamp() + make_interval(secs => approval_seconds) END, 1
      FROM jsonb_to_recordset(p_requests) AS r(id bigint, tenant_id bigint, actor_id bigint, parent_id bigint, title text,
            status text, plan_hash text, action_class text, sla_class text, approval_level smallint, priority smallint,
            environment text, reason text, tags text[], trace_id text, not_before timestamptz, execution_seconds integer,
            step_seconds integer, max_attempts smallint, approval_seconds integer);

    INSERT INTO executions_executionplan (execution_id, document)
    SELECT id, document FROM jsonb_to_recordset(p_requests) AS r(id bigint, document jsonb);

    WITH step AS (
        INSERT INTO executions_step (execution_id, position, key, tool, description)
        SELECT (r ->> 'id')::bigint, s.position, s.id, s.tool, coalesce(s.description, '')
          FROM jsonb_array_elements(p_requests) r,
               jsonb_to_recordset(r -> 'document' -> 'steps')
                   AS s(position integer, id text, tool text, description text)
        RETURNING id, execution_id, position
    ), planned AS (
        SELECT (r ->> 'id')::bigint AS execution_id, s.position, s.targets
          FROM jsonb_array_elements(p_requests) r,
               jsonb_to_recordset(r -> 'document' -> 'steps') AS s(position integer, targets jsonb)
    )
    INSERT INTO executions_steptarget (execution_id, step_id, position, asset_id, name)
    SELECT step.execution_id, step.id, t.ordinality, (t.target ->> 'asset_id')::bigint, coalesce(t.target ->> 'name', '')
      FROM step JOIN planned USING (execution_id, position)
     CROSS JOIN LATERAL jsonb_array_elements(
               CASE WHEN jsonb_array_length(planned.targets) = 0 THEN '[{}]'::jsonb ELSE planned.targets END)
               WITH ORDINALITY AS t(target, ordinality);

    INSERT INTO executions_event (execution_id, seq, kind, actor, reason, data)
    SELECT id, 1, 'execution.submitted', actor, coalesce(reason, ''),
           jsonb_build_object('to', status, 'approval_level', approval_level, 'plan_hash', plan_hash)
      FROM jsonb_to_recordset(p_requests)
           AS r(id bigint, actor text, reason text, status text, approval_level integer, plan_hash text);
END $$;
