-- Who of %(users)s may decide on a plan that is not an execution yet: the rule of approvers.sql, for its assets.
-- by_group: whether asset groups can cover it at all, so whether it has targets, and changes nothing without one.
WITH {grants}
SELECT u.username
  FROM safety_user u
 WHERE u.id = ANY (%(users)s)
   AND (u.is_superuser
        OR u.id IN (SELECT user_id FROM everywhere)
        OR (%(by_group)s AND u.id IN (SELECT user_id FROM granted)
            AND NOT EXISTS (
                SELECT FROM unnest(%(assets)s::bigint[]) AS asset(id) WHERE NOT EXISTS (
                    SELECT FROM executions_asset_groups m
                      JOIN granted ON granted.user_id = u.id AND granted.object_pk = m.assetgroup_id::text
                     WHERE m.asset_id = asset.id))))
 ORDER BY u.username
