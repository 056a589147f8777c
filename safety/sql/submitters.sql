-- Which of these users may submit plans at all: superusers, requesters and admins, and whoever holds an execute permission,
-- by himself or through a group, on everything or on one object.
WITH permission AS MATERIALIZED (
    SELECT p.id
      FROM auth_permission p
      JOIN django_content_type ct ON ct.id = p.content_type_id
     WHERE ct.app_label = 'executions' AND ct.model IN ('asset', 'assetgroup')
       AND p.codename IN ('execute_read', 'execute_modify', 'execute_deploy')
)
SELECT u.id
  FROM safety_user u
 WHERE u.id = ANY (%(users)s::bigint[]) AND u.is_active
   AND (u.is_superuser
        OR EXISTS (SELECT FROM safety_user_groups m JOIN auth_group g ON g.id = m.group_id
                    WHERE m.user_id = u.id AND g.name IN ('requester', 'admin'))
        OR EXISTS (SELECT FROM safety_user_user_permissions held JOIN permission ON permission.id = held.permission_id
                    WHERE held.user_id = u.id)
        OR EXISTS (SELECT FROM safety_user_groups m
                     JOIN auth_group_permissions held ON held.group_id = m.group_id
                     JOIN permission ON permission.id = held.permission_id
                    WHERE m.user_id = u.id)
        OR EXISTS (SELECT FROM guardian_userobjectpermission held
                     JOIN permission ON permission.id = held.permission_id
                    WHERE held.user_id = u.id)
        OR EXISTS (SELECT FROM safety_user_groups m
                     JOIN guardian_groupobjectpermission held ON held.group_id = m.group_id
                     JOIN permission ON permission.id = held.permission_id
                    WHERE m.user_id = u.id))
