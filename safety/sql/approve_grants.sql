-- CTEs of whoever may approve, among %(users)s: `everywhere` on everything of the tenant, `granted` on asset groups.
permission AS MATERIALIZED (
    SELECT p.id, ct.model FROM auth_permission p JOIN django_content_type ct ON ct.id = p.content_type_id
     WHERE ct.app_label = 'executions' AND p.codename = 'approve'
),
everywhere AS MATERIALIZED (
    SELECT m.user_id FROM safety_user_groups m JOIN auth_group g ON g.id = m.group_id
     WHERE m.user_id = ANY (%(users)s) AND g.name IN ('admin', 'approver')
    UNION ALL
    SELECT held.user_id FROM safety_user_user_permissions held JOIN permission ON permission.id = held.permission_id
     WHERE held.user_id = ANY (%(users)s)
    UNION ALL
    SELECT m.user_id
      FROM safety_user_groups m
      JOIN auth_group_permissions held ON held.group_id = m.group_id
      JOIN permission ON permission.id = held.permission_id
     WHERE m.user_id = ANY (%(users)s)
),
-- object_pk is text: compared as text, so that an odd key of another model breaks no cast.
granted AS MATERIALIZED (
    SELECT held.user_id, held.object_pk
      FROM guardian_userobjectpermission held
      JOIN permission ON permission.id = held.permission_id AND permission.model = 'assetgroup'
     WHERE held.user_id = ANY (%(users)s)
    UNION ALL
    SELECT m.user_id, held.object_pk
      FROM safety_user_groups m
      JOIN guardian_groupobjectpermission held ON held.group_id = m.group_id
      JOIN permission ON permission.id = held.permission_id AND permission.model = 'assetgroup'
     WHERE m.user_id = ANY (%(users)s)
)
