-- How much each asked (user, asset) pair allows: 1 read, 2 modify, 3 deploy. Pairs that allow nothing are left out.
-- A pair of different tenants, of an inactive user, or of an asset that is gone allows nothing, whatever was granted.
-- Grants are found by the user first (or the user's groups), so the cost follows the grants of those users.
WITH asked AS (
    SELECT DISTINCT u.id AS user_id, u.is_superuser, asset.id AS asset_id
      FROM unnest(%(users)s::bigint[], %(assets)s::bigint[]) AS pair (user_id, asset_id)
      JOIN safety_user u ON u.id = pair.user_id AND u.is_active
      JOIN executions_asset asset ON asset.id = pair.asset_id AND asset.tenant_id = u.tenant_id
),
permission AS MATERIALIZED (
    SELECT p.id, ct.model, array_position(ARRAY['execute_read', 'execute_modify', 'execute_deploy'], p.codename::text) AS level
      FROM auth_permission p
      JOIN django_content_type ct ON ct.id = p.content_type_id
     WHERE ct.app_label = 'executions' AND ct.model IN ('asset', 'assetgroup')
       AND p.codename IN ('execute_read', 'execute_modify', 'execute_deploy')
),
-- Rights on everything of the tenant: superusers, the role admin, and permissions that name no object.
everywhere AS (
    SELECT m.user_id, 3 AS level
      FROM safety_user_groups m JOIN auth_group g ON g.id = m.group_id
     WHERE m.user_id = ANY (%(users)s) AND g.name = 'admin'
    UNION ALL
    SELECT held.user_id, permission.level
      FROM safety_user_user_permissions held JOIN permission ON permission.id = held.permission_id
     WHERE held.user_id = ANY (%(users)s)
    UNION ALL
    SELECT m.user_id, permission.level
      FROM safety_user_groups m
      JOIN auth_group_permissions held ON held.group_id = m.group_id
      JOIN permission ON permission.id = held.permission_id
     WHERE m.user_id = ANY (%(users)s)
),
-- Rights on one asset or asset group. object_pk is text: compared as text, so that an odd key of another model breaks no cast.
granted AS (
    SELECT held.user_id, permission.model, held.object_pk, permission.level
      FROM guardian_userobjectpermission held JOIN permission ON permission.id = held.permission_id
     WHERE held.user_id = ANY (%(users)s)
    UNION ALL
    SELECT m.user_id, permission.model, held.object_pk, permission.level
      FROM safety_user_groups m
      JOIN guardian_groupobjectpermission held ON held.group_id = m.group_id
      JOIN permission ON permission.id = held.permission_id
     WHERE m.user_id = ANY (%(users)s)
)
SELECT user_id, asset_id, max(level)
  FROM (
    SELECT user_id, asset_id, 3 AS level FROM asked WHERE is_superuser
    UNION ALL
    SELECT asked.user_id, asked.asset_id, everywhere.level
      FROM asked JOIN everywhere USING (user_id)
    UNION ALL
    SELECT asked.user_id, asked.asset_id, granted.level
      FROM asked
      JOIN granted ON granted.user_id = asked.user_id AND granted.model = 'asset'
                  AND granted.object_pk = asked.asset_id::text
    UNION ALL
    SELECT asked.user_id, asked.asset_id, granted.level
      FROM asked
      JOIN executions_asset_groups member ON member.asset_id = asked.asset_id
      JOIN granted ON granted.user_id = asked.user_id AND granted.model = 'assetgroup'
                  AND granted.object_pk = member.assetgroup_id::text
  ) AS allowed
 GROUP BY user_id, asset_id;
