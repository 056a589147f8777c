-- Commit what the executions of one worker did, in one call for a whole group of them.
--
-- p_ops: {
--   "executions": [{"id", "token", "n": how many events and chunks follow for it, "status": new or null,
--       "from": [statuses it may have] or null, "reason", "error_code", "start": bool, "end": null | "finish" | "return" |
--       "dead" | "ask", "ask": [ids of the steps that wait for approval], "ask_waves": [of each the wave, or 0], "delay": seconds, "give_back": bool, "dead_reason", "pattern", "fingerprint"}],
--   "steps":   [{"id", "execution_id", "from", "to", "error_code", "error"}],
--   "targets": [{"id", "execution_id", "from", "to", "attempt", "exit_code", "error_code", "error", "stop_confirmed",
--                "stdout_bytes", "stderr_bytes", "truncated", "stdout", "data"}],
--   "rollbacks": [{"id", "execution_id", "position", "key", "tool", "description",
--                  "targets": [{"id", "position", "asset_id", "name"}]}], or absent: rows of rollback steps, still to begin,
--   "events":  [{"execution_id", "k": 1..n, "kind", "actor", "reason", "data"}],
--   "chunks":  [{"execution_id", "k": 1..n, "step_target_id", "stream", "text"}]}
-- Returns the ids of executions whose lease is lost: nothing of theirs was written. Raises, and writes nothing at all,
-- when a row was not in the state that the operation says it was in (OC001), and when the worker has committed a group of
-- this number already (OC002).
--
-- Why a stale worker cannot write (promise 4): the entries' rows are locked first, and only then, in a new statement with
-- a new snapshot, the tokens are compared. From there to the end of the transaction nobody can take a lease away. A token
-- in a WHERE without the lock would not do: between two statements the lease could change hands.
CREATE OR REPLACE FUNCTION ledger_commit(p_worker bigint, p_group bigint, p_ops jsonb, p_ageing interval)
    RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_lost bigint[];
    v_ops jsonb := p_ops;
    v_count integer;
    v_ids bigint[];
    v_return jsonb;
    v_now timestamptz;
    v_dead boolean;
    v_ask boolean;
BEGIN
    PERFORM FROM queueing_queueentry
      WHERE execution_id IN (SELECT (o ->> 'id')::bigint FROM jsonb_array_elements(p_ops -> 'executions') o)
      ORDER BY execution_id FOR NO KEY UPDATE;
    SELECT array_agg(o.id) INTO v_lost
      FROM jsonb_to_recordset(p_ops -> 'executions') AS o(id bigint, token bigint)
     WHERE NOT EXISTS (SELECT FROM queueing_queueentry q
                        WHERE q.execution_id = o.id AND q.state = 'leased' AND q.token = o.token
                          AND q.lease_expires_at > statement_timestamp());

    -- A group whose answer was lost is sent again, maybe while the first call still runs for a connection that is gone. The
    -- worker's row makes them take turns, and the number says to the second that nothing is left to do.
    UPDATE queueing_worker SET ledger_group = p_group WHERE id = p_worker AND ledger_group < p_group;
    IF NOT FOUND AND EXISTS (SELECT FROM queueing_worker WHERE id = p_worker) THEN
        RAISE EXCEPTION 'ledger: group % is committed already', p_group USING ERRCODE = 'OC002';
    END IF;

    IF v_lost IS NOT NULL THEN
        v_ops := jsonb_build_object('executions', coalesce((SELECT jsonb_agg(o)
            FROM jsonb_array_elements(p_ops -> 'executions') o WHERE NOT (o ->> 'id')::bigint = ANY (v_lost)), '[]'));
        FOREACH v_count IN ARRAY ARRAY[1, 2, 3, 4] LOOP
            v_ops := v_ops || jsonb_build_object((ARRAY['steps', 'targets', 'events', 'chunks'])[v_count],
                coalesce((SELECT jsonb_agg(o)
                            FROM jsonb_array_elements(p_ops -> (ARRAY['steps', 'targets', 'events', 'chunks'])[v_count]) o
                           WHERE NOT (o ->> 'execution_id')::bigint = ANY (v_lost)), '[]'));
        END LOOP;
        IF p_ops ? 'rollbacks' THEN
            v_ops := v_ops || jsonb_build_object('rollbacks', coalesce((SELECT jsonb_agg(o)
                FROM jsonb_array_elements(p_ops -> 'rollbacks') o
               WHERE NOT (o ->> 'execution_id')::bigint = ANY (v_lost)), '[]'));
        END IF;
    END IF;

    -- What is to be undone is written before anything of it begins, so whoever goes on after a crash undoes that and
    -- nothing else. A position is taken once, so of two who begin the same rollback the second writes nothing.
    IF v_ops ? 'rollbacks' THEN
        INSERT INTO executions_step (id, execution_id, position, key, tool, description, kind)
        SELECT o.id, o.execution_id, o.position, o.key, o.tool, o.description, 'rollback'
          FROM jsonb_to_recordset(v_ops -> 'rollbacks')
               AS o(id bigint, execution_id bigint, position integer, key text, tool text, description text);
        INSERT INTO executions_steptarget (id, execution_id, step_id, position, asset_id, name)
        SELECT t.id, o.execution_id, o.id, t.position, t.asset_id, t.name
          FROM jsonb_to_recordset(v_ops -> 'rollbacks') AS o(id bigint, execution_id bigint, targets jsonb),
               jsonb_to_recordset(o.targets) AS t(id bigint, position integer, asset_id bigint, name text);
    END IF;

    -- One time for the whole group, taken after its locks: statement_timestamp() is older than what others wrote
    -- while this call waited, and two calls of clock_timestamp() would have a step start before its execution.
    v_now := clock_timestamp();
    UPDATE executions_step s
       SET status = o."to", error_code = coalesce(o.error_code, s.error_code), error = coalesce(o.error, s.error),
           started_at = CASE WHEN o."to" = 'running' OR (o.ran AND s.started_at IS NULL) THEN coalesce(s.started_at, v_now)
                             ELSE s.started_at END,
           finished_at = CASE WHEN o."to" IN ('running', 'pending') THEN NULL ELSE v_now END
      FROM jsonb_to_recordset(v_ops -> 'steps')
           AS o(id bigint, execution_id bigint, "from" text, "to" text, ran boolean, error_code text, error text)
     WHERE s.id = o.id AND s.execution_id = o.execution_id AND s.status = o."from";
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count <> jsonb_array_length(v_ops -> 'steps') THEN
        RAISE EXCEPTION 'ledger: % of % steps were in the expected state', v_count, jsonb_array_length(v_ops -> 'steps')
            USING ERRCODE = 'OC001';
    END IF;

    UPDATE executions_steptarget t
       SET status = o."to", attempt = coalesce(o.attempt, t.attempt),
           exit_code = CASE WHEN o."to" = 'running' THEN NULL ELSE coalesce(o.exit_code, t.exit_code) END,
           error_code = CASE WHEN o."to" = 'running' THEN '' ELSE coalesce(o.error_code, t.error_code) END,
           error = CASE WHEN o."to" = 'running' THEN '' ELSE coalesce(o.error, t.error) END,
           stop_confirmed = coalesce(o.stop_confirmed, t.stop_confirmed),
           stdout_bytes = coalesce(o.stdout_bytes, t.stdout_bytes), stderr_bytes = coalesce(o.stderr_bytes, t.stderr_bytes),
           truncated = coalesce(o.truncated, t.truncated), stdout = coalesce(o.stdout, t.stdout),
           data = coalesce(o.data, t.data),
           started_at = CASE WHEN o."to" = 'running' OR (o.ran AND t.started_at IS NULL) THEN v_now ELSE t.started_at END,
           finished_at = CASE WHEN o."to" IN ('running', 'pending') THEN NULL ELSE v_now END
      FROM jsonb_to_recordset(v_ops -> 'targets')
           AS o(id bigint, execution_id bigint, "from" text, "to" text, ran boolean, attempt integer, exit_code integer,
                error_code text, error text, stop_confirmed boolean, stdout_bytes bigint, stderr_bytes bigint,
                truncated boolean, stdout text, data jsonb)
     WHERE t.id = o.id AND t.execution_id = o.execution_id AND t.status = o."from";
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count <> jsonb_array_length(v_ops -> 'targets') THEN
        RAISE EXCEPTION 'ledger: % of % targets were in the expected state', v_count,
            jsonb_array_length(v_ops -> 'targets') USING ERRCODE = 'OC001';
    END IF;

    -- The UPDATE holds the execution's row, so its counter gives out numbers without a gap, also beside writers of the web.
    WITH moved AS (
        UPDATE executions_execution e
           SET last_seq = e.last_seq + o.n,
               -- A cancel that came between loading and starting stays.
               status = CASE WHEN e.status = 'cancelling' AND o.status = 'running' THEN e.status
                             ELSE coalesce(o.status, e.status) END,
               status_reason = coalesce(o.reason, CASE WHEN o.status IS NULL THEN e.status_reason ELSE '' END),
               error_code = coalesce(o.error_code, e.error_code),
               started_at = CASE WHEN o.start THEN coalesce(e.started_at, v_now) ELSE e.started_at END,
               -- Time back in the queue does not count against the limit.
               deadline_at = CASE WHEN o.start THEN coalesce(
                    e.deadline_at + coalesce(v_now - (SELECT q.returned_at FROM queueing_queueentry q
                                                       WHERE q.execution_id = e.id), interval '0'),
                    v_now + make_interval(secs => e.execution_seconds)) ELSE e.deadline_at END,
               finished_at = CASE WHEN o."end" = 'finish' THEN v_now ELSE e.finished_at END,
               approval_expires_at = CASE WHEN o."end" = 'ask' THEN v_now + make_interval(secs => coalesce(
                    (SELECT p.approval_seconds FROM safety_timeoutpolicy p
                      WHERE p.sla_class = e.sla_class AND p.action_class = e.action_class), 3600)) ELSE e.approval_expires_at END
          FROM jsonb_to_recordset(v_ops -> 'executions')
               AS o(id bigint, n integer, status text, "from" text[], reason text, error_code text, start boolean, "end" text)
         WHERE e.id = o.id AND (o."from" IS NULL OR e.status = ANY (o."from"))
        RETURNING e.id, e.last_seq - o.n AS base
    ), event AS (
        INSERT INTO executions_event (execution_id, seq, at, kind, actor, reason, data)
        SELECT m.id, m.base + o.k, v_now, o.kind, o.actor, coalesce(o.reason, ''), o.data
          FROM jsonb_to_recordset(v_ops -> 'events')
               AS o(execution_id bigint, k integer, kind text, actor text, reason text, data jsonb)
          JOIN moved m ON m.id = o.execution_id
    ), chunk AS (
        INSERT INTO executions_outputchunk (execution_id, seq, at, step_target_id, stream, text)
        SELECT m.id, m.base + o.k, v_now, o.step_target_id, o.stream, o.text
          FROM jsonb_to_recordset(v_ops -> 'chunks')
               AS o(execution_id bigint, k integer, step_target_id bigint, stream text, text text)
          JOIN moved m ON m.id = o.execution_id
    )
    SELECT count(*) INTO v_count FROM moved;
    IF v_count <> jsonb_array_length(v_ops -> 'executions') THEN
        RAISE EXCEPTION 'ledger: % of % executions were in the expected state', v_count,
            jsonb_array_length(v_ops -> 'executions') USING ERRCODE = 'OC001';
    END IF;

    -- Ways out of the queue, in this same transaction: a final status, free locks and a closed entry are one fact.
    SELECT array_agg(o.id) FILTER (WHERE o."end" IN ('finish', 'dead', 'ask')),
           jsonb_agg(jsonb_build_object('execution_id', o.id, 'delay_seconds', coalesce(o.delay, 0),
                                        'give_back', coalesce(o.give_back, false), 'end', 'handed_back',
                                        'error', o.reason)) FILTER (WHERE o."end" = 'return'),
           bool_or(o."end" = 'dead'), bool_or(o."end" = 'ask')
      INTO v_ids, v_return, v_dead, v_ask
      FROM jsonb_to_recordset(v_ops -> 'executions')
           AS o(id bigint, "end" text, delay double precision, give_back boolean, reason text)
     WHERE o."end" IS NOT NULL;
    IF v_ids IS NOT NULL AND v_return IS NOT NULL THEN
        -- Both lock the lines of their assets in order; one after the other would be out of order.
        PERFORM FROM queueing_assetline
          WHERE asset_id IN (SELECT asset_id FROM queueing_assetlock
                              WHERE execution_id = ANY (v_ids)
                                 OR execution_id IN (SELECT (r ->> 'execution_id')::bigint
                                                       FROM jsonb_array_elements(v_return) r))
          ORDER BY asset_id FOR NO KEY UPDATE;
    END IF;
    IF v_dead THEN
        INSERT INTO queueing_deadletter (execution_id, tenant_id, reason, error, pattern, fingerprint, attempts)
        SELECT o.id, q.tenant_id, o.dead_reason, coalesce(o.reason, ''), coalesce(o.pattern, ''),
               coalesce(o.fingerprint, ''), q.attempt
          FROM jsonb_to_recordset(v_ops -> 'executions')
               AS o(id bigint, "end" text, dead_reason text, reason text, pattern text, fingerprint text)
          JOIN queueing_queueentry q ON q.execution_id = o.id WHERE o."end" = 'dead';
        PERFORM queue_keep_attempts((
            SELECT jsonb_agg(jsonb_build_object('execution_id', o.id, 'end', 'dead', 'error', o.reason))
              FROM jsonb_to_recordset(v_ops -> 'executions') AS o(id bigint, "end" text, reason text)
             WHERE o."end" = 'dead'));
    END IF;
    IF v_ask THEN
        -- It holds no machine while people think. What its entry knew of its attempts is kept, and this one given back.
        INSERT INTO executions_pendingapproval (execution_id, steps, waves, asked_at, attempt, attempts_left, losses)
        SELECT o.id, o.ask, coalesce(o.ask_waves, '{}'), v_now, q.attempt, q.attempts_left + 1, q.losses
          FROM jsonb_to_recordset(v_ops -> 'executions') AS o(id bigint, "end" text, ask text[], ask_waves smallint[])
          JOIN queueing_queueentry q ON q.execution_id = o.id WHERE o."end" = 'ask'
            ON CONFLICT (execution_id) DO UPDATE  -- left by a process of the release before this one
           SET steps = excluded.steps, waves = excluded.waves, asked_at = excluded.asked_at, attempt = excluded.attempt,
               attempts_left = excluded.attempts_left, losses = excluded.losses, notice_due_at = v_now,
               notice_tries = 0, notice_error = '';
        PERFORM queue_keep_attempts((
            SELECT jsonb_agg(jsonb_build_object('execution_id', o.id, 'end', 'handed_back', 'error', o.reason))
              FROM jsonb_to_recordset(v_ops -> 'executions') AS o(id bigint, "end" text, reason text)
             WHERE o."end" = 'ask'));
    END IF;
    IF v_ids IS NOT NULL THEN
        -- Failed, cancelled and the like let the same request be submitted again.
        UPDATE safety_idempotencykey k SET blocks_until = to_timestamp(0)
          FROM jsonb_to_recordset(v_ops -> 'executions') AS o(id bigint, "end" text, status text)
         WHERE o."end" = 'finish' AND o.status <> 'succeeded' AND k.execution_id = o.id;
        PERFORM queue_release(v_ids);
    END IF;
    IF v_return IS NOT NULL THEN
        PERFORM queue_return(v_return, p_ageing);
    END IF;

    SELECT array_agg((o ->> 'id')::bigint) INTO v_ids FROM jsonb_array_elements(v_ops -> 'executions') o;
    IF v_ids IS NOT NULL THEN
        -- A payload holds 8,000 bytes. Beyond 400 executions "*" says: look for yourself.
        PERFORM pg_notify('opsconductor_events',
                          CASE WHEN cardinality(v_ids) > 400 THEN '*' ELSE array_to_string(v_ids, ',') END);
    END IF;
    RETURN coalesce(v_lost, '{}');
END $$;


-- What the engine needs to run, or to go on with, these executions.
-- [{"id", "tenant_id", "actor_id", "status", "action_class", "approval_level", "step_seconds", "remaining_seconds",
--   "approvals": [[step or '', user id]] that approve this plan on these targets; null at level 0; "document",
--   "steps": [[id, key, status]], of one that has begun, or that undoes another,
--            [[id, key, status, kind, error_code, error, finished_at as seconds]],
--   "targets": [[id, step_id, position, status, attempt, exit_code, stdout]],
--   "faults": [[id of a target, error_code, error]] of those that have one; null where none has,
--   "rollback": the data of the event by which its rollback began, and "answered": whether a person has said since then
--               how it goes on; null while there is none}]
CREATE OR REPLACE FUNCTION executions_load(p_ids bigint[]) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'id', e.id, 'tenant_id', e.tenant_id, 'actor_id', e.actor_id, 'status', e.status, 'action_class', e.action_class,
        'approval_level', e.approval_level,
        'approvals', CASE WHEN e.approval_level > 0 THEN (
             SELECT jsonb_agg(jsonb_build_array(a.step, a.by_id)) FROM executions_approval a
              WHERE a.execution_id = e.id AND a.approved AND a.withdrawn_at IS NULL AND a.wave = 0
                AND a.plan_hash = e.plan_hash AND a.targets_hash = e.targets_hash) END,
        'wave_approvals', CASE WHEN e.approval_level > 0 THEN (
             SELECT jsonb_agg(jsonb_build_array(a.step, a.wave, a.by_id)) FROM executions_approval a
              WHERE a.execution_id = e.id AND a.approved AND a.withdrawn_at IS NULL AND a.wave > 0
                AND a.plan_hash = e.plan_hash AND a.targets_hash = e.targets_hash) END,
        -- It was rejected, or forgotten, while it waited before a step or a wave, and is to undo what it did.
        'refused', CASE WHEN e.status = 'cancelling' AND e.error_code IN ('approval_rejected', 'not_approved_in_time')
             THEN jsonb_build_array(e.error_code, e.status_reason) END,
        'step_seconds', e.step_seconds, 'last_seq', e.last_seq,
        'remaining_seconds', CASE WHEN e.deadline_at IS NULL THEN e.execution_seconds
             ELSE extract(epoch FROM e.deadline_at - coalesce(q.returned_at, statement_timestamp())) END,
        'document', p.document,
        'steps', steps.rows,
        'rollback', CASE WHEN steps.is_undone THEN (
             SELECT v.data || jsonb_build_object('answered', said.answered, 'spent', (
                      SELECT jsonb_agg(jsonb_build_array(a."end",
                                       extract(epoch FROM a.ended_at - greatest(a.leased_at, hurry.since))))
                        FROM queueing_attempt a WHERE a.execution_id = e.id AND a.ended_at > hurry.since))
               FROM executions_event v
              CROSS JOIN LATERAL (
                    SELECT EXISTS (SELECT 1 FROM executions_event w WHERE w.execution_id = e.id
                                      AND w.kind = 'execution.requeued' AND w.seq > v.seq) AS answered) said
              CROSS JOIN LATERAL (  -- since when it has the time of a cleanup and no more: as it was said first
                    SELECT CASE WHEN v.data ->> 'seconds' IS NOT NULL AND NOT said.answered THEN v.at
                                WHEN e.status = 'cancelling' THEN (
                                     SELECT max(c.at) FROM executions_event c
                                      WHERE c.execution_id = e.id AND c.kind = 'execution.cancelling') END AS since) hurry
              WHERE v.execution_id = e.id AND v.kind = 'rollback.started'
              ORDER BY v.seq DESC LIMIT 1) END,
        'targets', targets.rows, 'faults', targets.faults)), '[]'::jsonb)
      FROM executions_execution e JOIN executions_executionplan p ON p.execution_id = e.id
      LEFT JOIN queueing_queueentry q ON q.execution_id = e.id
     CROSS JOIN LATERAL (
          SELECT jsonb_agg(CASE WHEN s.status = 'pending' AND s.kind = 'step' THEN jsonb_build_array(s.id, s.key, s.status)
                                ELSE jsonb_build_array(s.id, s.key, s.status, s.kind, s.error_code, s.error,
                                                       extract(epoch FROM s.finished_at)) END ORDER BY s.position) AS rows,
                 bool_or(s.kind = 'rollback') AS is_undone
            FROM executions_step s WHERE s.execution_id = e.id) steps
     CROSS JOIN LATERAL (
          SELECT jsonb_agg(jsonb_build_array(t.id, t.step_id, t.position, t.status, t.attempt, t.exit_code, t.stdout)
                           ORDER BY t.id) AS rows,
                 jsonb_agg(jsonb_build_array(t.id, t.error_code, t.error))
                    FILTER (WHERE t.error_code <> '' OR t.error <> '') AS faults
            FROM executions_steptarget t WHERE t.execution_id = e.id) targets
     WHERE e.id = ANY (p_ids));
END $$;
