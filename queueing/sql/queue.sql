-- The queue, as functions: each is one call, and because they are VOLATILE every statement inside sees what was
-- committed before that statement began. That is what makes "lock, then look" correct at READ COMMITTED.
--
-- Lock order, everywhere: queue entries one already has a right to -> asset lines by asset_id -> waiting entries by
-- execution_id. The claim takes nothing that it would have to wait for (SKIP LOCKED), so it is outside that order.
--
-- A conflict at an asset is: somebody holds its lock, or stands in line before, and one of the two is exclusive.

-- Number of a lease, and of the locks that are granted with it: the fencing number. It only grows.
CREATE SEQUENCE IF NOT EXISTS queueing_token_seq;


-- Put executions into the queue, with their requests for locks.
-- p_entries: [{"execution_id", "tenant_id", "priority", "not_before" (null or time), "max_attempts", "pool", "region",
--              "losses", "locks": [{"asset_id", "exclusive"}], "attempt", "attempts_left", "came_back"}]; without a pool it is
-- 'default', without a region any. The last three are for one that was in the queue before and goes on: how many attempts it
-- had, how many are left, and that the time from now on does not count against its limit.
-- Needs no line lock: a request that a running claim cannot see yet is only granted later, and a waiter that was
-- parked behind nothing visible is woken by whoever parked it (see queue_release).
CREATE OR REPLACE FUNCTION queue_enqueue(p_entries jsonb, p_ageing interval) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queueing_assetline (asset_id)
    SELECT DISTINCT (l ->> 'asset_id')::bigint AS asset_id
      FROM jsonb_array_elements(p_entries) e, jsonb_array_elements(e -> 'locks') l
     ORDER BY 1
        ON CONFLICT DO NOTHING;

    WITH entry AS (
        SELECT e.execution_id, e.tenant_id, e.priority, e.max_attempts, e.locks, coalesce(e.pool, 'default') AS pool,
               coalesce(e.region, '') AS region, coalesce(e.losses, 0) AS losses, coalesce(e.attempt, 0) AS attempt,
               coalesce(e.attempts_left, e.max_attempts) AS attempts_left, coalesce(e.came_back, false) AS came_back,
               e.not_before IS NOT NULL AND e.not_before > statement_timestamp() AS later,
               greatest(e.not_before, statement_timestamp()) AS available_at
          FROM jsonb_to_recordset(p_entries) AS e(
                   execution_id bigint, tenant_id bigint, priority smallint, not_before timestamptz,
                   max_attempts integer, pool text, region text, losses smallint, locks jsonb, attempt integer,
                   attempts_left integer, came_back boolean)
    ), added AS (
        INSERT INTO queueing_queueentry (execution_id, tenant_id, pool, region, state, priority, available_at, place,
                                         attempt, attempts_left, losses, ready_at, returned_at)
        SELECT execution_id, tenant_id, pool, region, CASE WHEN later THEN 'delayed' ELSE 'ready' END, priority,
               available_at, available_at + (priority - 1) * p_ageing, attempt, attempts_left, losses, available_at,
               CASE WHEN came_back THEN statement_timestamp() END
          FROM entry
    )
    INSERT INTO queueing_assetlock (execution_id, asset_id, place, exclusive, state)
    SELECT entry.execution_id, l.asset_id, entry.available_at + (entry.priority - 1) * p_ageing, l.exclusive,
           CASE WHEN entry.later THEN 'idle' ELSE 'queued' END
      FROM entry, jsonb_to_recordset(entry.locks) AS l(asset_id bigint, exclusive boolean);

    PERFORM pg_notify('opsconductor_queue', '');
END $$;


-- Find up to p_limit entries that a worker may claim, lock their rows and return their ids.
-- p_suspects: '' = entries that no worker has died of; 'any' = those that one has, one after the other by place;
-- 'spare' = of these, the ones that have an attempt left after this one, up to the first that has none: that one is to run
-- alone, and comes to it because nothing behind it is begun any more.
--
-- Who goes first: among tenants the one that has the fewest leases at this worker, then the one with the fewest in the line,
-- so that a tenant with 100,000 entries does not keep another's single one waiting; within a tenant the first by place. What
-- it runs elsewhere does not count against it: a tenant with its own pool has its share of the common one as well. A tenant that has entries for several of the
-- worker's pools and regions is served where its head has the earliest place.
--
-- Rows that another claim is looking at are skipped, and none is locked that is not returned: so claims run side by side.
-- Returns null when there is nothing for this worker, and an empty array when others are looking at all there is.
CREATE OR REPLACE FUNCTION queue_look(p_worker bigint, p_pools text[], p_regions text[], p_limit integer, p_suspects text)
    RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[] := '{}';
    v_more bigint[];
    v_heads jsonb;
    v_alone boolean;  -- there is one tenant, so nobody to share with
    v_head record;
    v_left integer;
BEGIN
    IF p_suspects <> '' THEN
        SELECT array_agg(execution_id) INTO v_ids FROM (
            SELECT execution_id FROM queueing_queueentry q
             WHERE q.state = 'ready' AND q.losses > 0 AND (p_suspects = 'any' OR q.attempts_left > 1)
               AND queue_serves(p_pools, p_regions, q.pool, q.region)
               AND NOT EXISTS (SELECT FROM queueing_pool p WHERE p.name = q.pool AND p.paused)
               AND (p_suspects = 'any' OR NOT EXISTS (
                       SELECT FROM queueing_queueentry last
                        WHERE last.state = 'ready' AND last.losses > 0 AND last.attempts_left <= 1 AND last.place < q.place
                          AND queue_serves(p_pools, p_regions, last.pool, last.region)
                          AND NOT EXISTS (SELECT FROM queueing_pool p WHERE p.name = last.pool AND p.paused)))
             ORDER BY q.place LIMIT p_limit FOR UPDATE SKIP LOCKED
        ) suspect;
        RETURN v_ids;
    END IF;

    -- The first entry of every line, by one look into the index for each: what stands behind it costs nothing.
    WITH RECURSIVE head AS (
        (SELECT q.pool, q.region, q.tenant_id, q.place FROM queueing_queueentry q
          WHERE q.state = 'ready' AND q.losses = 0
          ORDER BY q.pool, q.region, q.tenant_id, q.place, q.execution_id LIMIT 1)
         UNION ALL
        SELECT next.pool, next.region, next.tenant_id, next.place FROM head, LATERAL (
            SELECT q.pool, q.region, q.tenant_id, q.place FROM queueing_queueentry q
             WHERE q.state = 'ready' AND q.losses = 0
               AND (q.pool, q.region, q.tenant_id) > (head.pool, head.region, head.tenant_id)
             ORDER BY q.pool, q.region, q.tenant_id, q.place, q.execution_id LIMIT 1
        ) next
    ), served AS (
        SELECT pool, region, tenant_id, place FROM head
         WHERE queue_serves(p_pools, p_regions, pool, region)
           AND NOT EXISTS (SELECT FROM queueing_pool p WHERE p.name = head.pool AND p.paused)
    )
    SELECT jsonb_agg(to_jsonb(served)), count(DISTINCT tenant_id) = 1 INTO v_heads, v_alone FROM served;
    IF v_heads IS NULL THEN
        RETURN NULL;
    END IF;

    -- One tenant alone takes all there is to have. Several share: each is filled up to the level at which together
    -- they have what is given out now and what they have at this worker already. A line that has less than the share leaves the rest to
    -- the next round, and is not in it.
    LOOP
        v_left := p_limit - cardinality(v_ids);
        FOR v_head IN
            WITH taken AS (
                SELECT q.pool, q.region, q.tenant_id, count(*) AS n, count(*) FILTER (WHERE q.worker_id = p_worker) AS here
                  FROM queueing_queueentry q
                 WHERE NOT v_alone AND q.state = 'leased' GROUP BY q.pool, q.region, q.tenant_id
                 UNION ALL
                SELECT q.pool, q.region, q.tenant_id, count(*), count(*) FROM queueing_queueentry q
                 WHERE NOT v_alone AND q.execution_id = ANY (v_ids) GROUP BY q.pool, q.region, q.tenant_id
            ), at_worker AS (
                SELECT t.tenant_id, sum(t.here) AS has FROM taken t GROUP BY t.tenant_id
            ), of_line AS (
                SELECT t.pool, t.region, t.tenant_id, sum(t.n) AS has FROM taken t GROUP BY t.pool, t.region, t.tenant_id
            ), tenant AS (
                SELECT DISTINCT ON (h.tenant_id) h.pool, h.region, h.tenant_id, h.place, coalesce(a.has, 0) AS has,
                       coalesce(l.has, 0) AS in_line
                  FROM jsonb_to_recordset(v_heads) AS h(pool text, region text, tenant_id bigint, place timestamptz)
                  LEFT JOIN at_worker a ON a.tenant_id = h.tenant_id
                  LEFT JOIN of_line l ON l.pool = h.pool AND l.region = h.region AND l.tenant_id = h.tenant_id
                 ORDER BY h.tenant_id, h.place
            ), filled AS (
                SELECT tenant.*, min((v_left + running_sum) / running_count) OVER () AS level FROM (
                    SELECT tenant.*, sum(has) OVER w AS running_sum, row_number() OVER w AS running_count
                      FROM tenant WINDOW w AS (ORDER BY has, in_line, place, tenant_id)
                ) tenant
            )
            SELECT pool, region, tenant_id, ceil(level - has)::integer AS share FROM filled
             WHERE level > has ORDER BY has, in_line, place, tenant_id
        LOOP
            EXIT WHEN v_left <= 0;
            SELECT array_agg(execution_id) INTO v_more FROM (
                SELECT execution_id FROM queueing_queueentry
                 WHERE state = 'ready' AND losses = 0 AND pool = v_head.pool AND region = v_head.region
                   AND tenant_id = v_head.tenant_id AND execution_id <> ALL (v_ids)
                 ORDER BY place, execution_id LIMIT least(v_head.share, v_left) FOR UPDATE SKIP LOCKED
            ) ready;
            v_ids := v_ids || v_more;
            IF coalesce(cardinality(v_more), 0) < least(v_head.share, v_left) THEN
                SELECT jsonb_agg(h) INTO v_heads FROM jsonb_array_elements(v_heads) h
                 WHERE (h ->> 'pool', h ->> 'region', (h ->> 'tenant_id')::bigint)
                    <> (v_head.pool, v_head.region, v_head.tenant_id);
            END IF;
            v_left := p_limit - cardinality(v_ids);
        END LOOP;
        EXIT WHEN v_left <= 0 OR v_heads IS NULL;
    END LOOP;
    RETURN v_ids;
END $$;


-- Whether a worker with these labels may claim an entry with those.
CREATE OR REPLACE FUNCTION queue_serves(p_pools text[], p_regions text[], p_pool text, p_region text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (p_pool = ANY (p_pools) OR '*' = ANY (p_pools))
       AND (p_region = '' OR p_region = ANY (p_regions) OR '*' = ANY (p_regions))
$$;


-- Give up to p_limit ready entries to one worker, each with all its locks or not at all; p_suspects as in queue_look.
-- Returns {"looked": n, "leases": [{"execution_id", "token", "attempt", "attempts_left"}]}; looked = 0 means that
-- nothing was ready, looked > 0 without leases that entries were parked or are being looked at elsewhere.
CREATE OR REPLACE FUNCTION queue_claim(p_worker bigint, p_limit integer, p_lease interval, p_suspects text DEFAULT '')
    RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_lines bigint[];
    v_granted bigint[];
    v_parked bigint[];
    v_leases jsonb;
BEGIN
    SELECT queue_look(id, pools, regions, p_limit, p_suspects) INTO v_ids FROM queueing_worker WHERE id = p_worker;
    IF v_ids IS NULL THEN
        RETURN jsonb_build_object('looked', 0, 'leases', '[]'::jsonb);
    END IF;
    IF cardinality(v_ids) = 0 THEN
        RETURN jsonb_build_object('looked', 1, 'leases', '[]'::jsonb);
    END IF;
    -- A draining queue, worker or pool hands out nothing. Looked at after the rows are ours: a drain that was
    -- committed before this statement is seen by it.
    IF EXISTS (SELECT FROM queueing_queuecontrol WHERE draining)
       OR NOT EXISTS (SELECT FROM queueing_worker WHERE id = p_worker AND state = 'active' AND NOT draining)
       OR EXISTS (SELECT FROM queueing_pool p WHERE p.paused AND p.name IN (
                     SELECT pool FROM queueing_queueentry WHERE execution_id = ANY (v_ids))) THEN
        RETURN jsonb_build_object('looked', 0, 'leases', '[]'::jsonb);
    END IF;

    -- The lines are what makes two claims of one asset take turns. One that is taken is not waited for: its entries
    -- stay ready, and the next claim looks at them.
    SELECT array_agg(asset_id) INTO v_lines FROM (
        SELECT asset_id FROM queueing_assetline
         WHERE asset_id IN (SELECT asset_id FROM queueing_assetlock WHERE execution_id = ANY (v_ids))
         ORDER BY asset_id FOR NO KEY UPDATE SKIP LOCKED
    ) line;

    -- A new statement, so a new snapshot: whatever the last owner of a line did is visible now, and nobody can change
    -- who holds a line's asset until this transaction ends. The EXISTS are kept apart, one for each partial index:
    -- joined by OR they cost seven times as much on a long line of readers.
    WITH request AS (
        SELECT l.execution_id, l.asset_id, l.place, l.exclusive, line.asset_id IS NOT NULL AS ours
          FROM queueing_assetlock l
          LEFT JOIN unnest(v_lines) AS line(asset_id) ON line.asset_id = l.asset_id
         WHERE l.execution_id = ANY (v_ids)
    ), verdict AS (
        SELECT execution_id, bool_and(ours) AS all_ours, bool_or(
            ours AND CASE WHEN exclusive THEN
                EXISTS (SELECT FROM queueing_assetlock h WHERE h.asset_id = r.asset_id AND h.state = 'held')
                OR EXISTS (SELECT FROM queueing_assetlock q WHERE q.asset_id = r.asset_id AND q.state = 'queued'
                              AND (q.place, q.execution_id) < (r.place, r.execution_id))
            ELSE
                EXISTS (SELECT FROM queueing_assetlock h WHERE h.asset_id = r.asset_id AND h.state = 'held' AND h.exclusive)
                OR EXISTS (SELECT FROM queueing_assetlock q WHERE q.asset_id = r.asset_id AND q.state = 'queued'
                              AND q.exclusive AND (q.place, q.execution_id) < (r.place, r.execution_id))
            END) AS blocked
          FROM request r GROUP BY execution_id
    ), judged AS (
        SELECT id.execution_id, coalesce(v.all_ours, true) AS all_ours, coalesce(v.blocked, false) AS blocked
          FROM unnest(v_ids) AS id(execution_id) LEFT JOIN verdict v USING (execution_id)
    )
    SELECT array_agg(execution_id) FILTER (WHERE all_ours AND NOT blocked),
           array_agg(execution_id) FILTER (WHERE all_ours AND blocked)
      INTO v_granted, v_parked FROM judged;

    IF v_parked IS NOT NULL THEN
        UPDATE queueing_queueentry SET state = 'blocked' WHERE execution_id = ANY (v_parked);
    END IF;

    IF v_granted IS NOT NULL THEN
        WITH leased AS (
            UPDATE queueing_queueentry
               SET state = 'leased', token = nextval('queueing_token_seq'), attempt = attempt + 1,
                   attempts_left = attempts_left - 1, worker_id = p_worker, leased_at = statement_timestamp(),
                   lease_expires_at = statement_timestamp() + p_lease
             WHERE execution_id = ANY (v_granted)
            RETURNING execution_id, token, attempt, attempts_left, place
        ), locked AS (
            UPDATE queueing_assetlock l
               SET state = 'held', fence = leased.token, held_at = statement_timestamp()
              FROM leased WHERE l.execution_id = leased.execution_id
        )
        SELECT jsonb_agg(jsonb_build_object('execution_id', execution_id, 'token', token, 'attempt', attempt,
                                            'attempts_left', attempts_left) ORDER BY place, execution_id)
          INTO v_leases FROM leased;
    END IF;
    RETURN jsonb_build_object('looked', cardinality(v_ids), 'leases', coalesce(v_leases, '[]'::jsonb));
END $$;


-- Wake the entries that may now be at the head of these assets' lines: all up to and including the first exclusive
-- request. The caller holds the lines (FOR NO KEY UPDATE), which is why a waiter cannot be parked behind the one that
-- has just gone: the claim that would park it needs the same line. Returns how many were woken.
CREATE OR REPLACE FUNCTION queue_wake(p_assets bigint[]) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_woken integer;
BEGIN
    WITH head AS (
        SELECT DISTINCT waiting.execution_id
          FROM unnest(p_assets) AS a(asset_id)
          LEFT JOIN LATERAL (
              SELECT x.place, x.execution_id FROM queueing_assetlock x
               WHERE x.asset_id = a.asset_id AND x.state = 'queued' AND x.exclusive
               ORDER BY x.place, x.execution_id LIMIT 1
          ) writer ON true
          CROSS JOIN LATERAL (
              SELECT l.execution_id FROM queueing_assetlock l
               WHERE l.asset_id = a.asset_id AND l.state = 'queued'
                 AND (writer.place IS NULL OR (l.place, l.execution_id) <= (writer.place, writer.execution_id))
          ) waiting
    ), ordered AS (
        SELECT e.execution_id FROM queueing_queueentry e JOIN head USING (execution_id)
         WHERE e.state = 'blocked' ORDER BY e.execution_id FOR UPDATE OF e
    )
    UPDATE queueing_queueentry e SET state = 'ready', ready_at = statement_timestamp()
      FROM ordered WHERE e.execution_id = ordered.execution_id;
    GET DIAGNOSTICS v_woken = ROW_COUNT;
    IF v_woken > 0 THEN
        PERFORM pg_notify('opsconductor_queue', '');
    END IF;
    RETURN v_woken;
END $$;


-- Take entries out of the queue for good, free their locks and wake the next in line. Looks at no token: the caller
-- holds the entries' rows and has compared it (ledger_commit), or they were waiting (queue_remove).
CREATE OR REPLACE FUNCTION queue_release(p_ids bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_assets bigint[];
BEGIN
    PERFORM FROM queueing_assetline
      WHERE asset_id IN (SELECT asset_id FROM queueing_assetlock WHERE execution_id = ANY (p_ids))
      ORDER BY asset_id FOR NO KEY UPDATE;
    WITH gone AS (DELETE FROM queueing_assetlock WHERE execution_id = ANY (p_ids) RETURNING asset_id)
    SELECT array_agg(DISTINCT asset_id) INTO v_assets FROM gone;
    IF v_assets IS NOT NULL THEN
        PERFORM queue_wake(v_assets);
    END IF;
    DELETE FROM queueing_queueentry WHERE execution_id = ANY (p_ids);
END $$;


-- Take leased entries back into the queue: out of line, free of locks, to be ready again after `delay_seconds`; the
-- attempts that end so are kept.
-- p_entries: [{"execution_id", "delay_seconds", "give_back", "end", "error"}]; give_back returns the attempt that the
-- claim counted, for a worker that ends in order. end: see AttemptEnd; without it, 'handed_back'.
-- The caller holds the entries' rows, as in queue_release.
CREATE OR REPLACE FUNCTION queue_return(p_entries jsonb, p_ageing interval) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_assets bigint[];
BEGIN
    SELECT array_agg(execution_id) INTO v_ids FROM jsonb_to_recordset(p_entries) AS e(execution_id bigint);
    PERFORM FROM queueing_assetline
      WHERE asset_id IN (SELECT asset_id FROM queueing_assetlock WHERE execution_id = ANY (v_ids))
      ORDER BY asset_id FOR NO KEY UPDATE;
    PERFORM queue_keep_attempts(p_entries);
    WITH idle AS (
        UPDATE queueing_assetlock SET state = 'idle', fence = NULL, held_at = NULL
         WHERE execution_id = ANY (v_ids) RETURNING asset_id
    )
    SELECT array_agg(DISTINCT asset_id) INTO v_assets FROM idle;
    UPDATE queueing_queueentry q
       SET state = 'delayed', token = NULL, worker_id = NULL, leased_at = NULL, lease_expires_at = NULL, revoked_at = NULL,
           returned_at = statement_timestamp(),
           attempts_left = q.attempts_left + CASE WHEN e.give_back THEN 1 ELSE 0 END,
           losses = q.losses + CASE WHEN e."end" = 'worker_died' THEN 1 ELSE 0 END,
           available_at = statement_timestamp() + make_interval(secs => e.delay_seconds),
           -- After trouble it goes behind what came meanwhile; one that is handed back in order keeps its place.
           place = CASE WHEN e.give_back THEN q.place
                        ELSE statement_timestamp() + make_interval(secs => e.delay_seconds)
                             + (q.priority - 1) * p_ageing END
      FROM jsonb_to_recordset(p_entries)
           AS e(execution_id bigint, delay_seconds double precision, give_back boolean, "end" text)
     WHERE q.execution_id = e.execution_id;
    IF v_assets IS NOT NULL THEN
        PERFORM queue_wake(v_assets);
    END IF;
END $$;


-- Write down attempts that end without an end of their execution; p_entries: [{"execution_id", "end", "error"}]. The
-- caller holds the entries' rows, which still have their leases.
CREATE OR REPLACE FUNCTION queue_keep_attempts(p_entries jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queueing_attempt (execution_id, tenant_id, number, token, worker_id, worker, leased_at, "end", error)
    SELECT q.execution_id, q.tenant_id, q.attempt, q.token, q.worker_id, coalesce(w.host || '/' || w.pid, ''),
           coalesce(q.leased_at, statement_timestamp()), coalesce(e."end", 'handed_back'), coalesce(e.error, '')
      FROM jsonb_to_recordset(p_entries) AS e(execution_id bigint, "end" text, error text)
      JOIN queueing_queueentry q ON q.execution_id = e.execution_id AND q.state = 'leased'
      LEFT JOIN queueing_worker w ON w.id = q.worker_id
        ON CONFLICT DO NOTHING;  -- by whichever of its keys: it is written down already
END $$;


-- Bring entries whose time has come into the line, at the place that counts from their time. Returns how many.
CREATE OR REPLACE FUNCTION queue_promote(p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    SELECT array_agg(execution_id) INTO v_ids FROM (
        SELECT execution_id FROM queueing_queueentry
         WHERE state = 'delayed' AND available_at <= statement_timestamp()
         ORDER BY available_at LIMIT p_limit FOR UPDATE SKIP LOCKED
    ) due;
    IF v_ids IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE queueing_assetlock l SET state = 'queued', place = q.place
      FROM queueing_queueentry q WHERE q.execution_id = ANY (v_ids) AND l.execution_id = q.execution_id;
    UPDATE queueing_queueentry SET state = 'ready', ready_at = statement_timestamp() WHERE execution_id = ANY (v_ids);
    PERFORM pg_notify('opsconductor_queue', '');
    RETURN cardinality(v_ids);
END $$;


-- Lengthen those of a worker's leases that it names and that have not run out, and beat. A lease that it does not know of
-- (the answer to its claim was lost) is not named, so it runs out. So does one that was revoked a while ago: until then
-- its worker could have let go in order.
-- p_figures: {"running", "finished", "failed", "rss_bytes", "loop_lag_ms", "renewal_ms"}
-- Returns {"held": [execution_id, ..], "cancel": [{"execution_id", "reason"}], "state": the worker's, or 'draining'}.
-- Rows are locked in the order of the ledger's guard: unordered, the two deadlock within seconds under load.
CREATE OR REPLACE FUNCTION queue_renew(p_worker bigint, p_ids bigint[], p_lease interval, p_figures jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_held jsonb;
    v_cancel jsonb;
    v_state text;
BEGIN
    WITH mine AS (
        SELECT q.execution_id FROM queueing_queueentry q JOIN unnest(p_ids) AS known(execution_id) USING (execution_id)
         WHERE q.worker_id = p_worker AND q.state = 'leased' AND q.lease_expires_at > statement_timestamp()
           AND (q.revoked_at IS NULL OR q.revoked_at > statement_timestamp() - p_lease / 3)
         ORDER BY q.execution_id FOR NO KEY UPDATE OF q
    ), renewed AS (
        UPDATE queueing_queueentry q SET lease_expires_at = statement_timestamp() + p_lease
          FROM mine WHERE q.execution_id = mine.execution_id
        RETURNING q.execution_id, q.cancel_reason
    )
    SELECT coalesce(jsonb_agg(execution_id), '[]'::jsonb),
           coalesce(jsonb_agg(jsonb_build_object('execution_id', execution_id, 'reason', cancel_reason))
                        FILTER (WHERE cancel_reason IS NOT NULL), '[]'::jsonb)
      INTO v_held, v_cancel FROM renewed;
    UPDATE queueing_worker w
       SET last_beat_at = statement_timestamp(), running = f.running, finished = f.finished, failed = f.failed,
           rss_bytes = f.rss_bytes, loop_lag_ms = f.loop_lag_ms, renewal_ms = f.renewal_ms
      FROM jsonb_to_record(p_figures) AS f(running integer, finished bigint, failed bigint, rss_bytes bigint,
                                           loop_lag_ms integer, renewal_ms integer)
     WHERE w.id = p_worker AND w.stopped_at IS NULL
    RETURNING CASE WHEN w.state = 'active' AND w.draining THEN 'draining' ELSE w.state END INTO v_state;
    RETURN jsonb_build_object('held', v_held, 'cancel', v_cancel, 'state', v_state);
END $$;


-- Take entries away from workers whose lease ran out, with backoff: 2 s, doubling, at most 60 s, and up to a quarter
-- more by chance. Every claim was counted, so a poison execution comes to its last attempt. Returns the ids.
CREATE OR REPLACE FUNCTION queue_reap(p_limit integer, p_ageing interval) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    SELECT array_agg(execution_id) INTO v_ids FROM (
        SELECT execution_id FROM queueing_queueentry
         WHERE state = 'leased' AND lease_expires_at <= statement_timestamp()
         ORDER BY execution_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ) expired;
    IF v_ids IS NULL THEN
        RETURN '{}';
    END IF;
    PERFORM queue_return(
        (SELECT jsonb_agg(jsonb_build_object('execution_id', q.execution_id, 'give_back', false, 'delay_seconds',
                    least(60, 2 * power(2, least(q.attempt, 6) - 1)) * (1 + random() / 4),
                    'end', CASE WHEN w.blamed THEN 'worker_died' ELSE 'lease_expired' END,
                    'error', coalesce(nullif(w.note, ''), 'Its worker did not renew the lease in time.')))
           FROM queueing_queueentry q LEFT JOIN queueing_worker w ON w.id = q.worker_id
          WHERE q.execution_id = ANY (v_ids)), p_ageing);
    RETURN v_ids;
END $$;


-- Take waiting entries out of the queue. Returns the ids that were taken out; an entry that is leased, or that a claim
-- is looking at in this moment, is not among them. Lines first, then entries, which are not waited for: so this can
-- stand in nobody's way.
CREATE OR REPLACE FUNCTION queue_remove(p_ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    PERFORM FROM queueing_assetline
      WHERE asset_id IN (SELECT asset_id FROM queueing_assetlock WHERE execution_id = ANY (p_ids))
      ORDER BY asset_id FOR NO KEY UPDATE;
    SELECT array_agg(execution_id) INTO v_ids FROM (
        SELECT execution_id FROM queueing_queueentry
         WHERE execution_id = ANY (p_ids) AND state <> 'leased'
         ORDER BY execution_id FOR UPDATE SKIP LOCKED
    ) waiting;
    IF v_ids IS NULL THEN
        RETURN '{}';
    END IF;
    PERFORM queue_release(v_ids);
    RETURN v_ids;
END $$;


-- Have the lease of an execution end: its worker is asked to stop it, and if it has not let go soon, the lease is renewed
-- no more and runs out. Only then are its locks free: nobody else gets them while its commands may still run.
-- Returns whether it was leased.
CREATE OR REPLACE FUNCTION queue_revoke(p_id bigint, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE queueing_queueentry
       SET revoked_at = coalesce(revoked_at, statement_timestamp()), cancel_reason = coalesce(cancel_reason, p_reason)
     WHERE execution_id = p_id AND state = 'leased';
    IF FOUND THEN
        PERFORM pg_notify('opsconductor_control', 'cancel');
    END IF;
    RETURN FOUND;
END $$;


-- The lines of what waits: a row for each pool, region and tenant that has entries waiting, found by one look into the
-- index for each. `waiting` counts up to p_cap entries and no further, so that a long queue costs no more than a short one;
-- `since`: since when the first ones wait for nothing but a worker, of those counted.
CREATE OR REPLACE FUNCTION queue_lines(p_cap integer)
    RETURNS TABLE (pool text, region text, tenant_id bigint, waiting bigint, since timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE head AS (
        (SELECT q.pool, q.region, q.tenant_id FROM queueing_queueentry q
          WHERE q.state = 'ready' AND q.losses = 0 ORDER BY q.pool, q.region, q.tenant_id LIMIT 1)
         UNION ALL
        SELECT next.pool, next.region, next.tenant_id FROM head, LATERAL (
            SELECT q.pool, q.region, q.tenant_id FROM queueing_queueentry q
             WHERE q.state = 'ready' AND q.losses = 0
               AND (q.pool, q.region, q.tenant_id) > (head.pool, head.region, head.tenant_id)
             ORDER BY q.pool, q.region, q.tenant_id LIMIT 1
        ) next
    )
    SELECT head.pool::text, head.region::text, head.tenant_id, counted.waiting, counted.since
      FROM head, LATERAL (
          SELECT count(*) AS waiting, min(first.since) AS since FROM (
              SELECT coalesce(q.ready_at, q.available_at) AS since FROM queueing_queueentry q
               WHERE q.state = 'ready' AND q.losses = 0 AND q.pool = head.pool AND q.region = head.region
                 AND q.tenant_id = head.tenant_id
               ORDER BY q.place LIMIT p_cap
          ) first
      ) counted;
END $$;
