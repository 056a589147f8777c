-- Which of the asked (user, execution) pairs may decide: the user may approve executions on these targets.
-- By the role approver or admin, as a superuser, or by `approve` without an object: on everything of the tenant. Otherwise
-- when every target is in an asset group on which `approve` was given. A target whose asset is gone is in no group, so it is
-- not covered, and neither is what a step without a target changes. Whether it is the user's own execution is another question, which the caller asks.
WITH asked AS (
    SELECT DISTINCT u.id AS user_id, u.is_superuser, e.id AS execution_id
      FROM unnest(%(users)s::bigint[], %(executions)s::bigint[]) AS pair (user_id, execution_id)
      JOIN safety_user u ON u.id = pair.user_id AND u.is_active
      JOIN executions_execution e ON e.id = pair.execution_id AND e.tenant_id = u.tenant_id
),
{grants}
SELECT user_id, execution_id
  FROM asked
 WHERE is_superuser
    OR user_id IN (SELECT user_id FROM everywhere)
    OR (user_id IN (SELECT user_id FROM granted)
        -- Steps without a target have no name: a plan of such steps alone is covered by no group.
        AND EXISTS (SELECT FROM executions_steptarget t WHERE t.execution_id = asked.execution_id AND t.name <> '')
        AND NOT EXISTS (
            SELECT FROM executions_executionplan p, jsonb_array_elements(p.document -> 'steps') AS step
             WHERE p.execution_id = asked.execution_id
               AND step ->> 'action_class' <> 'read' AND jsonb_array_length(step -> 'targets') = 0)
        AND NOT EXISTS (
            SELECT FROM executions_steptarget t
             WHERE t.execution_id = asked.execution_id AND t.name <> '' AND NOT EXISTS (
                 SELECT FROM executions_asset_groups m
                   JOIN granted ON granted.user_id = asked.user_id AND granted.object_pk = m.assetgroup_id::text
                  WHERE m.asset_id = t.asset_id)))
