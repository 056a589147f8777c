-- Write into the audit that executions were submitted, or submitted again. p_requests and p_ids are those of
-- executions_insert; each request also holds "door" and "address", where it came from. One statement for all of them:
-- the same columns as safety/audit/recording.py writes for everything else.
CREATE OR REPLACE FUNCTION executions_audit(p_requests jsonb, p_ids bigint[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO safety_auditrecord (tenant_id, at, actor, actor_id, action, object_type, object_id, object_name, allowed,
           code, reason, door, address, data)
    SELECT r.tenant_id, statement_timestamp(), left(r.actor, 200), r.actor_id,
           CASE WHEN r.parent_id IS NULL THEN 'execution.submit' ELSE 'execution.retry' END,
           'execution', p_ids[r.place]::text, left(r.title, 300), true, '', left(coalesce(r.reason, ''), 4000),
           r.door, r.address,
           jsonb_build_object('to', r.status, 'approval_level', r.approval_level, 'plan_hash', r.plan_hash)
               || CASE WHEN r.parent_id IS NULL THEN '{}' ELSE jsonb_build_object('retry_of', r.parent_id) END
      FROM ROWS FROM (jsonb_to_recordset(p_requests) AS (
               tenant_id bigint, actor text, actor_id bigint, parent_id bigint, title text, reason text, door text,
               address text, status text, approval_level integer, plan_hash text))
           WITH ORDINALITY AS r(tenant_id, actor, actor_id, parent_id, title, reason, door, address, status,
               approval_level, plan_hash, place)
     WHERE p_ids[r.place] IS NOT NULL
     ORDER BY r.place
$$;
