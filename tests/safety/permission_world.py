"""Two tenants with people of every kind and one object of every kind, for the permission matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.utils import timezone
from guardian.shortcuts import assign_perm

from executions.models import Asset, AssetGroup, Execution, ExecutionPlan, Step, StepTarget
from queueing import queue
from queueing.models import (
    AssetLock,
    Cluster,
    DeadLetter,
    DeadLetterBatch,
    DeadLetterBatchItem,
    Pool,
    QueueControl,
    ScalingDecision,
    Worker,
)
from safety.accounts import issue_token, set_roles
from safety.models import ApiToken, AuditRecord, MaskingRule, Secret, SecretRule, TimeoutPolicy, User
from safety.secrets.keeping import store_secret
from tests.executions.live.rows import make_execution, make_user, print_out, say

BACKEND = "safety.backends.PasswordBackend"

# The columns of the table, in its order.
#   granted   no role, only object permissions: execute_modify on an asset, view_execution and cancel on an execution
#   clerk     staff, so that the admin lets them in, and no role; looker the same with the role viewer
#   stranger  the admin of another tenant; rival its superuser
PEOPLE = (
    "anonymous", "inactive", "nobody", "granted", "viewer", "requester", "approver", "operator", "admin", "root",
    "clerk", "looker", "stranger", "rival",
)  # fmt: skip
ABROAD = frozenset({"stranger", "rival"})


@dataclass(slots=True)
class Belongings:
    """What a tenant has: the numbers of its objects, each with the tenant's mark in every text of it."""

    mark: str
    ids: dict[str, int] = field(default_factory=dict)
    executions: dict[str, int] = field(default_factory=dict)  # by status


def belongings(mark: str, tenant: str) -> Belongings:
    """Make one object of every kind, with `mark` in every text that it has."""
    found = Belongings(mark)
    owner = make_user(f"{mark}-owner", tenant=tenant, first_name=mark, email=f"{mark}@example.org")
    reviewer = make_user(f"{mark}-reviewer", tenant=tenant)
    issue_token(owner, f"{mark} token")
    found.ids["auditrecord"] = AuditRecord.objects.filter(tenant=owner.tenant).earliest("pk").pk
    asset = Asset.objects.create(
        tenant=owner.tenant, name=f"{mark}-host", hostname=f"{mark}.example.org", connection="ssh",
        environment="development", description=mark, credential=f"{mark}/secret", owner=mark, tags=[mark],
    )  # fmt: skip
    group = AssetGroup.objects.create(tenant=owner.tenant, name=f"{mark}-group")
    group.assets.add(asset)
    for status in ("running", "queued", "pending_approval", "needs_attention", "failed", "parked"):
        execution = _execution(owner, asset, status, mark)
        found.executions[status] = execution.pk
        if status == "running":
            _claim(execution)
        for target in StepTarget.objects.filter(execution=execution)[:1]:
            print_out(target, [f"{mark} printed\n"])
            found.ids["steptarget"] = target.pk
    letter = DeadLetter.objects.create(
        execution_id=found.executions["parked"], tenant_id=owner.tenant_id, reason="attempts_exhausted",
        error=f"{mark} error", pattern=f"{mark} error", fingerprint="0" * 16, attempts=3,
    )  # fmt: skip
    batch = DeadLetterBatch.objects.create(
        tenant_id=owner.tenant_id, actor_id=owner.pk, by=owner.actor, verb="requeue", reason=mark,
        filter={"q": mark}, per_second=1, paced_until=timezone.now(), matched=1,
    )  # fmt: skip
    DeadLetterBatchItem.objects.create(batch=batch, entry=letter, execution_id=letter.execution_id)
    store_secret(owner.tenant, f"{mark}/secret", f"{mark} value", by=owner)
    rule = SecretRule.objects.create(tenant=owner.tenant, prefix=f"{mark}/rule")
    found.ids |= {
        "secret": Secret.objects.get(tenant=owner.tenant).pk, "secretrule": rule.pk,
        "user": owner.pk, "reviewer": reviewer.pk, "apitoken": ApiToken.objects.get(user=owner).pk, "asset": asset.pk,
        "assetgroup": group.pk, "execution": found.executions["running"], "deadletter": letter.pk,
        "deadletterbatch": batch.pk, "queueentry": found.executions["running"],
        "step": Step.objects.filter(execution=found.executions["running"]).values_list("pk", flat=True)[0],
    }  # fmt: skip
    return found


def _execution(owner: User, asset: Asset, status: str, mark: str) -> Execution:
    """`parked` needs attention, too, and every outcome of it is known: it can go back into the queue."""
    execution = make_execution(
        owner, steps=["check"], hosts=[asset.name], status="needs_attention" if status == "parked" else status,
        title=f"{mark} title", reason=f"{mark} reason", status_reason=f"{mark} why", tags=[mark],
        trace_id=f"{mark}-trace",
        step_status={"needs_attention": "unknown", "failed": "failed", "parked": "failed"}.get(status, "pending"),
        approval_level=2 if status == "pending_approval" else 0,
        approval_expires_at=timezone.now() + timedelta(hours=1) if status == "pending_approval" else None,
    )  # fmt: skip
    document = execution.plan.document
    for step in document["steps"]:
        del step["inputs"]["token"]  # so that it can be submitted again where there is no secret store
        step["targets"][0] |= {"asset_id": asset.pk, "hostname": asset.hostname, "connection": asset.connection}
    ExecutionPlan.objects.filter(pk=execution.pk).update(document=document)
    say(execution, "execution.noted", actor=owner.actor, reason=f"{mark} said", data={"text": mark})
    if status in ("queued", "running"):
        lock = {"asset_id": asset.pk, "exclusive": True}
        queue.enqueue(
            [
                {"execution_id": execution.pk, "tenant_id": owner.tenant_id, "priority": 5, "max_attempts": 3,
                 "not_before": None if status == "running" else (timezone.now() + timedelta(hours=1)).isoformat(),
                 "locks": [lock] if status == "running" else []}
            ]
        )  # fmt: skip
    return execution


def _claim(execution: Execution) -> None:
    """Lease it to a worker that goes on beating while the tests look at it."""
    soon = timezone.now() + timedelta(minutes=10)
    worker = Worker.objects.create(
        cluster="c", host="h", pid=execution.pk, version="0", slots=10, pools=["*"], regions=["*"], last_beat_at=soon
    )
    claimed = queue.claim(connection.connection, worker.pk, 10, timedelta(hours=1))
    assert [lease.execution_id for lease in claimed.leases] == [execution.pk]


@dataclass(slots=True)
class World:
    """People with their clients, what both tenants have, and the objects of the installation."""

    clients: dict[str, Client]
    cookies: dict[str, dict[str, str]]  # of each client, as they were after the sign-in
    home: Belongings
    away: Belongings
    common: dict[str, Any]
    states: dict[str, str] = field(default_factory=dict)  # hashes of all rows; see permission_walk.ask

    def ids(self, route: str, of: Belongings) -> dict[str, Any]:
        """The values of a route's parameters: objects of a tenant, in a state in which it can be done."""
        model = route.split("/")[2] if route.startswith("admin/") and route.count("/") > 2 else ""
        ids = {**self.common, **of.ids}
        return {
            "execution_id": of.executions[_status_for(route)], "entry_id": ids["deadletter"],
            "batch_id": ids["deadletterbatch"], "worker_id": ids["worker"], "asset_id": ids["asset"],
            "group_id": ids["assetgroup"], "token_id": ids["apitoken"], "step_target_id": ids["steptarget"],
            "code": "not_found",
            "name": "noop" if "tools" in route else "somewhere", "id": ids["user"], "url": "no-such-page/",
            "app_label": "executions", "content_type_id": ids["content_type"],
            "object_id": ids.get(model, ids["user"] if model == "r" else 0),
        }  # fmt: skip


def _status_for(route: str) -> str:
    if any(verb in route for verb in ("approve/", "reject/")):
        return "pending_approval"
    if "retry/" in route:
        return "failed"
    if "resolve/" in route:
        return "needs_attention"
    if "dead-letter" in route:
        return "parked"
    return "queued" if "cancel/" in route else "running"


def make_world() -> World:
    """Make everything, inside the test's transaction."""
    home, away = belongings("homemark", "default"), belongings("awaymark", "elsewhere")
    QueueControl.objects.get_or_create(pk=1)
    cluster = Cluster.objects.create(
        name="c", host="h", pid=1, version="0", processes=1, initial_processes=1, max_processes=8,
        last_beat_at=timezone.now() + timedelta(minutes=10),
    )  # fmt: skip
    decision = ScalingDecision.objects.create(
        cluster="c", host="h", before=1, after=2, reason="more to do", by="autoscale", applied=True, depth=1,
        waiting_seconds=1.0, running=1, slots=10,
    )  # fmt: skip
    pool = Pool.objects.create(name="somewhere", paused=False)
    common = {
        "worker": Worker.objects.order_by("pk").values_list("pk", flat=True)[0], "cluster": cluster.pk,
        "scalingdecision": decision.pk, "pool": pool.pk,
        "timeoutpolicy": TimeoutPolicy.objects.order_by("pk").values_list("pk", flat=True)[0],
        "maskingrule": MaskingRule.objects.create(name="matrix", expression="MATRIX-[0-9]{8}").pk,
        "group": Group.objects.create(name="team").pk,
        "assetlock": AssetLock.objects.get(asset_id=home.ids["asset"]).pk,
        "content_type": ContentType.objects.get_for_model(User).pk,
    }  # fmt: skip
    clients = _people(home)
    cookies = {name: {key: one.value for key, one in client.cookies.items()} for name, client in clients.items()}
    return World(clients, cookies, home, away, common)


def _people(home: Belongings) -> dict[str, Client]:
    granted = make_user("granted")
    assign_perm("execute_modify", granted, Asset.objects.get(pk=home.ids["asset"]))
    for status in ("running", "queued"):
        for right in ("view_execution", "cancel"):
            assign_perm(right, granted, Execution.objects.get(pk=home.executions[status]))
    users = {
        "inactive": _with_roles(make_user("inactive"), "admin"),
        "nobody": make_user("nobody"),
        "granted": granted,
        **{role: _with_roles(make_user(role), role) for role in ("viewer", "requester", "approver", "operator")},
        "admin": _with_roles(make_user("admin"), "admin"),
        "root": make_user("root", is_superuser=True, is_staff=True),
        "clerk": make_user("clerk", is_staff=True),
        "looker": _with_roles(make_user("looker"), "viewer"),
        "stranger": _with_roles(make_user("stranger", tenant="elsewhere"), "admin"),
        "rival": make_user("rival", tenant="elsewhere", is_superuser=True, is_staff=True),
    }
    User.objects.filter(username="looker").update(is_staff=True)
    clients = {"anonymous": Client()}
    for name, user in users.items():
        clients[name] = Client(raise_request_exception=False)
        clients[name].force_login(user, backend=BACKEND)
    User.objects.filter(username="inactive").update(is_active=False)
    assert set(clients) == set(PEOPLE)
    return clients


def _with_roles(user: User, *roles: str) -> User:
    set_roles(user, roles)
    return user
