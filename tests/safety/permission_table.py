"""Who may do what at every endpoint: the expectations of the permission matrix.

A block begins with its outcomes, one for each column, and lists the endpoints for which they hold.

    200, 201, ...   what a GET was answered          done   rows were written
    401, 403, ...   refused; nothing was written     none   redirected, refused with a message, or nothing to do
    login           led to the sign-in form

Each is asked for an object of the tenant `default` that is in the right state, with a request that is complete: what
stops it is a right that is missing. The columns are described in permission_world.py; stranger and rival are the admin
and the superuser of another tenant. A new endpoint goes into the block that says what it is for, or into a new block.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.safety.permission_world import PEOPLE

Outcomes = dict[str, str]

TABLE = """
# columns: anonymous inactive nobody granted viewer requester approver operator admin root clerk looker stranger rival

# The admin's own pages: whoever it lets in
= login login login login login login login 200   200   200   200   200   200   200
GET admin/search/
GET admin/
GET admin/password_change/done/
GET admin/jsi18n/

# Addresses of the admin that only lead on
= login login login login login login login none  none  none  none  none  none  none
POST admin/
GET admin/password_change/
POST admin/password_change/
GET admin/safety/user/<path:object_id>/
GET admin/auth/group/<path:object_id>/
GET admin/safety/apitoken/<path:object_id>/
GET admin/safety/timeoutpolicy/<path:object_id>/
GET admin/safety/auditrecord/<path:object_id>/
GET admin/safety/maskingrule/<path:object_id>/
GET admin/safety/secret/<path:object_id>/
GET admin/safety/secretrule/<path:object_id>/
GET admin/queueing/worker/drain/
GET admin/queueing/worker/resume/
GET admin/queueing/worker/drain-workers/
GET admin/queueing/worker/undrain-workers/
GET admin/queueing/worker/scale/
GET admin/queueing/worker/autoscale/
GET admin/queueing/worker/pause-pool/
GET admin/queueing/worker/resume-pool/
GET admin/queueing/worker/<path:object_id>/
GET admin/queueing/scalingdecision/<path:object_id>/
GET admin/queueing/cluster/<path:object_id>/
GET admin/queueing/pool/<path:object_id>/
GET admin/queueing/deadletterbatch/<path:object_id>/
GET admin/queueing/deadletter/<path:object_id>/
GET admin/queueing/assetlock/free/
GET admin/queueing/assetlock/<path:object_id>/
GET admin/queueing/queueentry/<path:object_id>/
GET admin/executions/execution/<path:object_id>/
GET admin/executions/step/<path:object_id>/
GET admin/executions/asset/<path:object_id>/
GET admin/executions/assetgroup/<path:object_id>/

# The admin's sign-in form; who is signed in already is led on, or told that the admin is not for them
= 200   200   none  none  none  none  none  none  none  none  none  none  none  none
GET admin/login/

# Sign-in, with nothing filled in; the home page leads to the list
= none  none  none  none  none  none  none  none  none  none  none  none  none  none
POST admin/login/
GET
POST
POST login/

# Lists and policies of the admin: whoever has a role, each in its own tenant
= login login login login login login login 200   200   200   403   200   200   200
GET admin/autocomplete/
GET admin/safety/user/
GET admin/auth/group/
GET admin/auth/group/<path:object_id>/history/
GET admin/auth/group/<path:object_id>/change/
GET admin/safety/apitoken/
GET admin/safety/timeoutpolicy/
GET admin/safety/timeoutpolicy/<path:object_id>/history/
GET admin/safety/timeoutpolicy/<path:object_id>/change/
GET admin/safety/maskingrule/
GET admin/safety/maskingrule/<path:object_id>/history/
GET admin/safety/maskingrule/<path:object_id>/change/
GET admin/queueing/deadletterbatch/
GET admin/queueing/deadletter/
GET admin/queueing/assetlock/
GET admin/queueing/queueentry/
GET admin/executions/execution/
GET admin/executions/step/
GET admin/executions/asset/
GET admin/executions/assetgroup/

# Nothing of ours is there
= login login login login login login login 404   404   404   404   404   404   404
GET admin/r/<path:content_type_id>/<path:object_id>/
GET admin/queueing/deadletter/<int:entry_id>/decide/
GET admin/(?P<url>.*)$

# Somebody else's password: administrators of that tenant
= login login login login login login login 403   200   200   403   403   404   404
GET admin/safety/user/<id>/password/

= login login login login login login login 403   done  done  403   403   404   404
POST admin/safety/user/<id>/password/

# Lists, with no action chosen
= login login login login login login login none  none  none  403   none  none  none
POST admin/safety/user/
POST admin/auth/group/
POST admin/safety/apitoken/
POST admin/safety/timeoutpolicy/
POST admin/safety/maskingrule/
POST admin/queueing/deadletterbatch/
POST admin/queueing/deadletter/
POST admin/queueing/assetlock/
POST admin/queueing/queueentry/
POST admin/executions/execution/
POST admin/executions/step/
POST admin/executions/asset/
POST admin/executions/assetgroup/

# Secrets and the rules for them: administrators, each in their own tenant
= login login login login login login login 403   200   200   403   403   200   200
GET admin/safety/secret/
GET admin/safety/secret/add/
GET admin/safety/secretrule/
GET admin/safety/secretrule/add/

= login login login login login login login 403   none  none  403   403   none  none
POST admin/safety/secret/
POST admin/safety/secretrule/

= login login login login login login login 403   done  done  403   403   done  done
POST admin/safety/secret/add/
POST admin/safety/secretrule/add/

= login login login login login login login 403   200   200   403   403   none  none
GET admin/safety/secret/<path:object_id>/history/
GET admin/safety/secret/<path:object_id>/change/
GET admin/safety/secret/<path:object_id>/delete/
GET admin/safety/secretrule/<path:object_id>/history/
GET admin/safety/secretrule/<path:object_id>/change/
GET admin/safety/secretrule/<path:object_id>/delete/

= login login login login login login login 403   done  done  403   403   none  none
POST admin/safety/secret/<path:object_id>/change/
POST admin/safety/secret/<path:object_id>/delete/
POST admin/safety/secretrule/<path:object_id>/change/
POST admin/safety/secretrule/<path:object_id>/delete/

# A new user: administrators, for their own tenant
= login login login login login login login 403   200   200   403   403   200   200
GET admin/safety/user/add/

= login login login login login login login 403   done  done  403   403   done  done
POST admin/safety/user/add/

# One object in the admin: whoever has a role in its tenant
= login login login login login login login 200   200   200   403   200   none  none
GET admin/safety/user/<path:object_id>/history/
GET admin/safety/user/<path:object_id>/change/
GET admin/safety/apitoken/<path:object_id>/history/
GET admin/safety/apitoken/<path:object_id>/change/
GET admin/queueing/deadletterbatch/<path:object_id>/history/
GET admin/queueing/deadletter/<path:object_id>/history/
GET admin/queueing/deadletter/<path:object_id>/change/
GET admin/queueing/assetlock/<path:object_id>/history/
GET admin/queueing/assetlock/<path:object_id>/change/
GET admin/queueing/queueentry/<path:object_id>/history/
GET admin/queueing/queueentry/<path:object_id>/change/
GET admin/executions/execution/<path:object_id>/history/
GET admin/executions/execution/<path:object_id>/change/
GET admin/executions/step/<path:object_id>/history/
GET admin/executions/step/<path:object_id>/change/
GET admin/executions/asset/<path:object_id>/history/
GET admin/executions/asset/<path:object_id>/change/
GET admin/executions/assetgroup/<path:object_id>/history/
GET admin/executions/assetgroup/<path:object_id>/change/

# What nobody adds, changes or deletes by hand
= login login login login login login login 403   403   403   403   403   403   403
GET admin/safety/user/<path:object_id>/delete/
POST admin/safety/user/<path:object_id>/delete/
GET admin/safety/apitoken/add/
POST admin/safety/apitoken/add/
GET admin/safety/apitoken/<path:object_id>/delete/
POST admin/safety/apitoken/<path:object_id>/delete/
POST admin/safety/apitoken/<path:object_id>/change/
GET admin/safety/timeoutpolicy/add/
POST admin/safety/timeoutpolicy/add/
GET admin/safety/timeoutpolicy/<path:object_id>/delete/
POST admin/safety/timeoutpolicy/<path:object_id>/delete/
GET admin/queueing/worker/add/
POST admin/queueing/worker/add/
GET admin/queueing/worker/<path:object_id>/delete/
POST admin/queueing/worker/<path:object_id>/delete/
POST admin/queueing/worker/<path:object_id>/change/
GET admin/queueing/scalingdecision/add/
POST admin/queueing/scalingdecision/add/
GET admin/queueing/scalingdecision/<path:object_id>/delete/
POST admin/queueing/scalingdecision/<path:object_id>/delete/
POST admin/queueing/scalingdecision/<path:object_id>/change/
GET admin/queueing/cluster/add/
POST admin/queueing/cluster/add/
GET admin/queueing/cluster/<path:object_id>/delete/
POST admin/queueing/cluster/<path:object_id>/delete/
POST admin/queueing/cluster/<path:object_id>/change/
GET admin/queueing/pool/add/
POST admin/queueing/pool/add/
GET admin/queueing/pool/<path:object_id>/delete/
POST admin/queueing/pool/<path:object_id>/delete/
POST admin/queueing/pool/<path:object_id>/change/
GET admin/queueing/deadletterbatch/add/
POST admin/queueing/deadletterbatch/add/
GET admin/queueing/deadletterbatch/<path:object_id>/delete/
POST admin/queueing/deadletterbatch/<path:object_id>/delete/
GET admin/queueing/deadletter/add/
POST admin/queueing/deadletter/add/
GET admin/queueing/deadletter/<path:object_id>/delete/
POST admin/queueing/deadletter/<path:object_id>/delete/
POST admin/queueing/deadletter/<path:object_id>/change/
GET admin/queueing/assetlock/add/
POST admin/queueing/assetlock/add/
GET admin/queueing/assetlock/<path:object_id>/delete/
POST admin/queueing/assetlock/<path:object_id>/delete/
POST admin/queueing/assetlock/<path:object_id>/change/
GET admin/queueing/queueentry/add/
POST admin/queueing/queueentry/add/
GET admin/queueing/queueentry/<path:object_id>/delete/
POST admin/queueing/queueentry/<path:object_id>/delete/
POST admin/queueing/queueentry/<path:object_id>/change/
GET admin/executions/execution/add/
POST admin/executions/execution/add/
GET admin/executions/execution/<path:object_id>/delete/
POST admin/executions/execution/<path:object_id>/delete/
POST admin/executions/execution/<path:object_id>/change/
GET admin/executions/step/add/
POST admin/executions/step/add/
GET admin/executions/step/<path:object_id>/delete/
POST admin/executions/step/<path:object_id>/delete/
POST admin/executions/step/<path:object_id>/change/
GET admin/executions/asset/<path:object_id>/delete/
POST admin/executions/asset/<path:object_id>/delete/

# A user: administrators of the tenant
= login login login login login login login 403   done  done  403   403   none  none
POST admin/safety/user/<path:object_id>/change/

# What holds for every tenant: superusers of the tenant `default`
= login login login login login login login 403   403   200   403   403   403   403
GET admin/auth/group/add/
GET admin/auth/group/<path:object_id>/delete/
GET admin/safety/maskingrule/add/
GET admin/safety/maskingrule/<path:object_id>/delete/

= login login login login login login login 403   403   done  403   403   403   403
POST admin/auth/group/add/
POST admin/auth/group/<path:object_id>/delete/
POST admin/auth/group/<path:object_id>/change/
POST admin/safety/timeoutpolicy/<path:object_id>/change/
POST admin/safety/maskingrule/add/
POST admin/safety/maskingrule/<path:object_id>/delete/
POST admin/safety/maskingrule/<path:object_id>/change/

# Steering queue and workers: operators of the tenant `default`
= login login login login login login login done  done  done  403   403   403   403
POST admin/queueing/worker/drain/
POST admin/queueing/worker/resume/
POST admin/queueing/worker/drain-workers/
POST admin/queueing/worker/undrain-workers/
POST admin/queueing/worker/scale/
POST admin/queueing/worker/autoscale/
POST admin/queueing/worker/pause-pool/
POST admin/queueing/worker/resume-pool/

# Seeing the fleet: whoever has a role in the tenant `default`
= login login login login login login login 200   200   200   403   200   403   403
GET admin/queueing/worker/
GET admin/queueing/worker/<path:object_id>/history/
GET admin/queueing/worker/<path:object_id>/change/
GET admin/queueing/scalingdecision/
GET admin/queueing/scalingdecision/<path:object_id>/history/
GET admin/queueing/scalingdecision/<path:object_id>/change/
GET admin/queueing/cluster/
GET admin/queueing/cluster/<path:object_id>/history/
GET admin/queueing/cluster/<path:object_id>/change/
GET admin/queueing/pool/
GET admin/queueing/pool/<path:object_id>/history/
GET admin/queueing/pool/<path:object_id>/change/

= login login login login login login login none  none  none  403   none  403   403
POST admin/queueing/worker/
POST admin/queueing/scalingdecision/
POST admin/queueing/cluster/
POST admin/queueing/pool/

# A decision on many DLQ entries, to look at
= login login login login login login login 200   200   200   403   200   404   404
GET admin/queueing/deadletterbatch/<int:batch_id>/progress/
GET admin/queueing/deadletterbatch/<path:object_id>/change/

= login login login login login login login none  none  none  403   none  404   404
POST admin/queueing/deadletterbatch/<int:batch_id>/progress/
POST admin/queueing/deadletterbatch/<path:object_id>/change/

# Stopping it: whoever began it, and operators
= login login login login login login login 404   404   404   403   404   404   404
GET admin/queueing/deadletterbatch/<int:batch_id>/cancel/

= login login login login login login login done  done  done  403   none  404   404
POST admin/queueing/deadletterbatch/<int:batch_id>/cancel/

# Beginning one, and new assets and groups: operators, each for the own tenant
= login login login login login login login 200   200   200   403   403   200   200
GET admin/queueing/deadletter/decide/
GET admin/executions/asset/add/
GET admin/executions/assetgroup/add/

= login login login login login login login done  done  done  403   403   done  done
POST admin/queueing/deadletter/decide/
POST admin/executions/asset/add/
POST admin/executions/assetgroup/add/

# Deciding on one DLQ entry: whoever may cancel its execution
= login login login login login login login done  done  done  none  none  404   404
POST admin/queueing/deadletter/<int:entry_id>/decide/

# Freeing a lock, and changing the inventory: operators
= login login login login login login login done  done  done  403   403   none  none
POST admin/queueing/assetlock/free/
POST admin/executions/asset/<path:object_id>/change/
POST admin/executions/assetgroup/<path:object_id>/delete/
POST admin/executions/assetgroup/<path:object_id>/change/

= login login login login login login login 200   200   200   403   403   none  none
GET admin/executions/assetgroup/<path:object_id>/delete/

# The admin's list of models
= login login login login login login login 200   200   200   404   200   200   200
GET admin/(?P<app_label>safety|auth|queueing|executions)/$

= login login login login login login login none  none  none  404   none  none  none
POST admin/(?P<app_label>safety|auth|queueing|executions)/$

# Lists of the API: everybody who is signed in, each what they may see
= 401   401   200   200   200   200   200   200   200   200   200   200   200   200
GET api/v1/executions/
GET api/v1/approvals/
GET api/v1/approvals/count/
GET api/v1/dead-letters/
GET api/v1/dead-letters/batches/
GET api/v1/queue/entries/
GET api/v1/locks/
GET api/v1/assets/
GET api/v1/asset-groups/
GET api/v1/tokens/
GET api/v1/tools/
GET api/v1/tools/<str:name>/

# Submitting: who may execute on the asset; for others it is not there
= 401   401   403   done  403   403   403   403   done  done  403   403   422   422
POST api/v1/executions/

# The same, answered for each plan
= 401   401   none  done  none  none  none  none  done  done  none  none  none  none
POST api/v1/executions/batch/

# A preview writes nothing
= 401   401   none  none  none  none  none  none  none  none  none  none  none  none
POST api/v1/executions/preview/

# Seeing an execution or asset: who has a role in its tenant, or a right on it
= 401   401   404   200   200   200   200   200   200   200   404   200   404   404
GET api/v1/executions/<row:execution_id>/
GET api/v1/executions/<row:execution_id>/steps/
GET api/v1/executions/<row:execution_id>/plan/
GET api/v1/executions/<row:execution_id>/events/
GET api/v1/executions/<row:execution_id>/events/stream
GET api/v1/executions/<row:execution_id>/output/
GET api/v1/assets/<row:asset_id>/
GET api/v1/asset-groups/<row:group_id>/

# Stopping it: operators, and who has the right on it
= 401   401   404   done  403   403   403   done  done  done  404   403   404   404
POST api/v1/executions/<row:execution_id>/cancel/
POST api/v1/locks/<row:asset_id>/free/

# Checking an asset, and asking it for its host key, is a submit
= 401   401   404   done  403   403   403   403   done  done  404   403   404   404
POST api/v1/assets/<row:asset_id>/check/
POST api/v1/assets/<row:asset_id>/host-key/look/

# Pinning the key asks it once more, so it wants that right besides the operator's; no worker answers here
= 401   401   403   403   403   403   403   403   409   409   403   403   404   404
POST api/v1/assets/<row:asset_id>/host-key/pin/

# Approving what others asked for
= 401   401   404   404   403   403   done  403   done  done  404   403   404   404
POST api/v1/executions/<row:execution_id>/approve/
POST api/v1/executions/<row:execution_id>/reject/

# Taking one's own approval back: nobody here has given one
= 401   401   404   409   409   409   409   409   409   409   404   409   404   404
POST api/v1/executions/<row:execution_id>/withdraw-approval/

# A retry is a submit
= 401   401   404   404   403   403   403   403   done  done  404   403   404   404
POST api/v1/executions/<row:execution_id>/retry/

# Deciding on what needs a person: operators
= 401   401   404   404   403   403   403   done  done  done  404   403   404   404
POST api/v1/executions/<row:execution_id>/resolve/
POST api/v1/dead-letters/batches/<row:batch_id>/cancel/
POST api/v1/dead-letters/<row:entry_id>/requeue/
POST api/v1/dead-letters/<row:entry_id>/discard/

# The audit: operators and administrators, each in their own tenant; nobody changes it
= 401   401   403   403   403   403   403   200   200   200   403   403   200   200
GET api/v1/audit/
GET api/v1/audit/export/

= login login login login login login login 200   200   200   403   403   200   200
GET admin/safety/auditrecord/

= login login login login login login login 200   200   200   403   403   none  none
GET admin/safety/auditrecord/<path:object_id>/change/

= login login login login login login login 200   200   200   none  none  none  none
GET admin/safety/auditrecord/<path:object_id>/history/

= login login login login login login login 403   403   403   403   403   403   403
GET admin/safety/auditrecord/add/
POST admin/safety/auditrecord/add/
GET admin/safety/auditrecord/<path:object_id>/delete/
POST admin/safety/auditrecord/<path:object_id>/delete/
POST admin/safety/auditrecord/<path:object_id>/change/

= login login login login login login login none  none  none  403   403   none  none
POST admin/safety/auditrecord/

# Figures of the DLQ: who has a role
= 401   401   403   403   200   200   200   200   200   200   403   200   200   200
GET api/v1/dead-letters/summary/

# DLQ entries and decisions, to look at
= 401   401   404   404   200   200   200   200   200   200   404   200   404   404
GET api/v1/dead-letters/batches/<row:batch_id>/
GET api/v1/dead-letters/batches/<row:batch_id>/results/
GET api/v1/dead-letters/<row:entry_id>/

# Deciding on many: each entry with one's own rights
= 401   401   none  none  none  none  none  done  done  done  none  none  none  none
POST api/v1/dead-letters/requeue/
POST api/v1/dead-letters/discard/

# Seeing what all tenants share: operators of the tenant `default`
= 401   401   403   403   403   403   403   200   200   200   403   403   403   403
GET api/v1/queue/
GET api/v1/workers/
GET api/v1/workers/scaling/

# Steering it: the same
= 401   401   403   403   403   403   403   done  done  done  403   403   403   403
POST api/v1/queue/drain/
POST api/v1/queue/resume/
POST api/v1/queue/pools/<label:name>/pause/
POST api/v1/queue/pools/<label:name>/resume/
POST api/v1/workers/scale/
POST api/v1/workers/autoscale/
POST api/v1/workers/drain/
POST api/v1/workers/undrain/
POST api/v1/workers/<row:worker_id>/drain/
POST api/v1/workers/<row:worker_id>/undrain/

# The inventory: operators, each for the own tenant
= 401   401   403   403   403   403   403   done  done  done  403   403   done  done
POST api/v1/assets/
POST api/v1/assets/import/
POST api/v1/asset-groups/

= 401   401   403   403   403   403   403   done  done  done  403   403   404   404
PUT api/v1/assets/<row:asset_id>/
PATCH api/v1/assets/<row:asset_id>/
PATCH api/v1/asset-groups/<row:group_id>/
DELETE api/v1/asset-groups/<row:group_id>/

# Not while an execution needs it
= 401   401   403   403   403   403   403   409   409   409   403   403   404   404
DELETE api/v1/assets/<row:asset_id>/

# Making a token of one's own
= 401   401   done  done  done  done  done  done  done  done  done  done  done  done
POST api/v1/tokens/

# Somebody else's token is not there, whoever asks
= 401   401   404   404   404   404   404   404   404   404   404   404   404   404
GET api/v1/tokens/<row:token_id>/
DELETE api/v1/tokens/<row:token_id>/

# Open to all, and without anything of anybody
= 200   200   200   200   200   200   200   200   200   200   200   200   200   200
GET api/errors/<str:code>/
GET api/schema/
GET api/docs/
GET healthz
GET readyz
GET metrics

# No such call
= 404   404   404   404   404   404   404   404   404   404   404   404   404   404
GET api/
POST api/

# No such method
= 405   405   405   405   405   405   405   405   405   405   405   405   405   405
POST healthz
POST readyz
POST metrics
GET logout/
GET admin/logout/

# The sign-in form
= 200   200   none  none  none  none  none  none  none  none  none  none  none  none
GET login/

= login login login login login login login login login login login login login login
POST logout/
POST admin/logout/

# Single sign-on, which is not set up here
= 404   404   404   404   404   404   404   404   404   404   404   404   404   404
GET login/sso/
GET login/sso/back/
GET login/sso/end/

= 405   405   405   405   405   405   405   405   405   405   405   405   405   405
POST login/sso/
POST login/sso/back/
POST login/sso/end/

# One's own account
= login login 200   200   200   200   200   200   200   200   200   200   200   200
GET account/
GET account/password/
GET account/tokens/

= login login 405   405   405   405   405   405   405   405   405   405   405   405
POST account/
GET account/sessions/end/
GET account/tokens/<int:token_id>/revoke/

# with nothing filled in; the token is somebody else's
= login login none  none  none  none  none  none  none  none  none  none  none  none
POST account/sessions/end/
POST account/password/

= login login 422   422   422   422   422   422   422   422   422   422   422   422
POST account/tokens/

= login login 404   404   404   404   404   404   404   404   404   404   404   404
POST account/tokens/<int:token_id>/revoke/

# Pages: everybody who is signed in, each what they may see
= login login 200   200   200   200   200   200   200   200   200   200   200   200
GET executions/
GET executions/new/
GET executions/assets/
GET approvals/
GET approvals/badge/

= login login 405   405   405   405   405   405   405   405   405   405   405   405
POST executions/
POST executions/assets/
POST executions/assets/<int:asset_id>/
GET executions/assets/<int:asset_id>/check/
POST approvals/
POST approvals/badge/
POST executions/<int:execution_id>/
POST executions/<int:execution_id>/fragments/
POST executions/<int:execution_id>/hosts/
POST executions/<int:execution_id>/feed/
POST executions/<int:execution_id>/log/
POST executions/<int:execution_id>/files/
GET executions/<int:execution_id>/cancel/
GET executions/<int:execution_id>/approve/
GET executions/<int:execution_id>/reject/
GET executions/<int:execution_id>/withdraw-approval/
GET executions/<int:execution_id>/retry/
GET executions/<int:execution_id>/resolve/
GET executions/<int:execution_id>/dead-letter/

# An asset's page; importing on one
= login login 404   200   200   200   200   200   200   200   404   200   404   404
GET executions/assets/<int:asset_id>/
GET executions/assets/<int:asset_id>/host-key/

= login login 403   403   403   403   403   200   200   200   403   403   200   200
GET executions/assets/import/

= login login 403   403   403   403   403   done  done  done  403   403   done  done
POST executions/assets/import/

# Checking an asset is a submit
= login login 404   done  none  none  none  none  done  done  404   none  404   404
POST executions/assets/<int:asset_id>/check/
POST executions/assets/<int:asset_id>/host-key/

# Submitting on a page
= login login none  done  none  none  none  none  done  done  none  none  none  none
POST executions/new/

# The files of a plan: there are none in this one
= login login 404   404   404   404   404   404   404   404   404   404   404   404
GET executions/<int:execution_id>/files/

# An execution's page
= login login 404   200   200   200   200   200   200   200   404   200   404   404
GET executions/<int:execution_id>/
GET executions/<int:execution_id>/fragments/
GET executions/<int:execution_id>/hosts/
GET executions/<int:execution_id>/feed/
GET executions/<int:execution_id>/log/

# Taking one's own approval back: nobody here has given one
= login login 404   none  none  none  none  none  none  none  404   none  404   404
POST executions/<int:execution_id>/withdraw-approval/

# Stopping it
= login login 404   done  none  none  none  done  done  done  404   none  404   404
POST executions/<int:execution_id>/cancel/

# Approving what others asked for
= login login 404   404   none  none  done  none  done  done  404   none  404   404
POST executions/<int:execution_id>/approve/
POST executions/<int:execution_id>/reject/

# A retry is a submit
= login login 404   404   none  none  none  none  done  done  404   none  404   404
POST executions/<int:execution_id>/retry/

# Deciding on what needs a person
= login login 404   404   none  none  none  done  done  done  404   none  404   404
POST executions/<int:execution_id>/resolve/
POST executions/<int:execution_id>/dead-letter/
"""

# Actions of the admin, marked on one row of the list, with a reason.
ACTION_TABLE = """

= login login login login login login login none  none  done  403   none  none  none
delete_selected auth/group
delete_selected safety/maskingrule

= login login login login login login login none  none  none  403   none  none  none
delete_selected executions/asset
delete_selected executions/execution
delete_selected executions/step
delete_selected queueing/assetlock
delete_selected queueing/deadletter
delete_selected queueing/deadletterbatch
delete_selected queueing/queueentry
delete_selected safety/apitoken
delete_selected safety/timeoutpolicy
delete_selected safety/user

= login login login login login login login done  done  done  403   none  none  none
delete_selected executions/assetgroup
cancel executions/execution
discard queueing/deadletter
requeue queueing/deadletter
requeue_from_failed_step queueing/deadletter

= login login login login login login login 403   done  done  403   403   none  none
delete_selected safety/secret
delete_selected safety/secretrule

# Asking the machines is a submit of its own
= login login login login login login login none  done  done  403   none  none  none
pin_host_keys executions/asset

= login login login login login login login none  none  none  403   none  403   403
delete_selected queueing/cluster
delete_selected queueing/pool
delete_selected queueing/scalingdecision
delete_selected queueing/worker

= login login login login login login login none  none  none  403   403   none  none
delete_selected safety/auditrecord

= login login login login login login login none  done  done  403   none  none  none
revoke safety/apitoken
"""


def _read(table: str) -> Iterator[tuple[tuple[str, str], Outcomes]]:
    outcomes: Outcomes = {}
    for line in table.splitlines():
        if line.startswith("="):
            outcomes = dict(zip(PEOPLE, line[1:].split(), strict=True))
        elif line and not line.startswith("#"):
            first, _, second = line.partition(" ")
            yield (first, second), outcomes


ENDPOINTS: dict[tuple[str, str], Outcomes] = dict(_read(TABLE))  # (method, route)
ACTIONS: dict[tuple[str, str], Outcomes] = {(model, name): row for (name, model), row in _read(ACTION_TABLE)}
