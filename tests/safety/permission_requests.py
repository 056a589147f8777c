"""What is sent to each endpoint: a request that would be carried out, so that nothing but a right can stop it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from queueing.models import Pool, QueueControl, Worker
from tests.executions.live.rows import PASSWORD
from tests.safety.permission_world import Belongings

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Request:
    data: str
    content_type: str
    query: str = ""


def request_for(method: str, route: str, of: Belongings, form: dict[str, Any] | None = None) -> Request:
    """Return a request that would be carried out; `form` takes the place of the route's own."""
    if method in ("GET", "DELETE"):
        return Request("", FORM, _query(route))
    if route.startswith("api/"):
        return Request(json.dumps(_json(route, of)), JSON)
    return Request(urlencode(_form(route, of) if form is None else form, doseq=True), FORM)


def prepare(route: str) -> str:
    """Bring about what an endpoint takes away, so that there is something for it to do. Return a word for it."""
    if "undrain" in route:
        Worker.objects.update(draining=True)
        return "workers drain"
    if "resume" in route:
        QueueControl.objects.update(draining=True)
        Pool.objects.update(paused=True)
        return "queue drained"
    return ""


def _query(route: str) -> str:
    if route == "admin/autocomplete/":
        return "?app_label=executions&model_name=asset&field_name=groups&term=a"
    return ""


def _plan(of: Belongings) -> dict[str, Any]:
    step = {"id": "a", "tool": "shell", "inputs": {"command": "true"}, "targets": [of.ids["asset"]]}
    return {"title": "matrix", "steps": [step]}


def _json(route: str, of: Belongings) -> dict[str, Any]:
    plan = {"plan": _plan(of)}
    letters = {"filter": {"ids": [of.ids["deadletter"]]}, "reason": "matrix"}
    bodies: dict[str, dict[str, Any]] = {
        "api/v1/executions/": plan,
        "api/v1/executions/preview/": plan,
        "api/v1/executions/batch/": {"executions": [plan]},
        "api/v1/tokens/": {"label": "matrix"},
        "api/v1/dead-letters/requeue/": letters,
        "api/v1/dead-letters/discard/": letters,
        "api/v1/assets/": {"name": "new", "connection": "local", "environment": "development"},
        "api/v1/assets/import/": {"format": "csv", "content": "name,connection\nnew,local\n"},
        "api/v1/assets/<row:asset_id>/": {"name": "changed", "connection": "local", "environment": "development"},
        "api/v1/assets/<row:asset_id>/host-key/pin/": {"fingerprint": "SHA256:matrix"},
        "api/v1/asset-groups/": {"name": "new"},
        "api/v1/asset-groups/<row:group_id>/": {"name": "changed"},
        "api/v1/workers/scale/": {"processes": 2, "reason": "matrix"},
        "api/v1/workers/autoscale/": {"mode": "on", "min": 1, "max": 2, "reason": "matrix"},
        "api/v1/executions/<row:execution_id>/resolve/": {"step": "check", "as": "failed", "reason": "matrix"},
    }
    return bodies.get(route, {"reason": "matrix"})


def _form(route: str, of: Belongings) -> dict[str, Any]:
    forms: dict[str, dict[str, Any]] = {
        "executions/assets/import/": {"format": "csv", "text": "name,connection\nnew,local\n", "do": "import"},
        "executions/new/": {"plan": json.dumps(_plan(of)), "do": "submit"},
        "executions/<int:execution_id>/resolve/": {"step": "check", "as": "failed", "reason": "matrix"},
        "admin/password_change/": {"old_password": PASSWORD, "new_password1": "a long enough one",
                                   "new_password2": "a long enough one"},
        "admin/queueing/worker/scale/": {"processes": "2"},
        "admin/queueing/worker/autoscale/": {"mode": "on", "minimum": "1", "maximum": "2"},
        "admin/queueing/worker/drain-workers/": {"ids": "all"},
        "admin/queueing/worker/pause-pool/": {"pool": "somewhere"},
        "admin/queueing/worker/resume-pool/": {"pool": "somewhere"},
        "admin/queueing/worker/undrain-workers/": {"ids": "all"},
        "admin/queueing/deadletter/<int:entry_id>/decide/": {"verb": "discard"},
        "admin/queueing/assetlock/free/": {"asset": str(of.ids["asset"])},
        "admin/executions/asset/add/": {"name": "new", "connection": "local", "environment": "development",
                                        "status": "active", "criticality": "low", "tags": "[]"},
        "admin/executions/asset/<path:object_id>/change/": {
            "name": "changed", "connection": "local", "environment": "development", "status": "active",
            "criticality": "low", "tags": "[]",
        },
        "admin/executions/assetgroup/add/": {"name": "new"},
        "admin/executions/assetgroup/<path:object_id>/change/": {"name": "changed"},
        "admin/executions/assetgroup/<path:object_id>/delete/": {"post": "yes"},
        "admin/auth/group/add/": {"name": "new"},
        "admin/auth/group/<path:object_id>/change/": {"name": "changed"},
        "admin/auth/group/<path:object_id>/delete/": {"post": "yes"},
        "admin/safety/user/add/": {"username": "new", "usable_password": "true", "password1": "a long enough one",
                                   "password2": "a long enough one"},
        "admin/safety/user/<path:object_id>/change/": {"username": "changed", "is_active": "on"},
        "admin/safety/user/<id>/password/": {"password1": "a long enough one", "password2": "a long enough one",
                                             "usable_password": "true"},
        "admin/safety/secret/add/": {"path": "new", "value": "matrix"},
        "admin/safety/secret/<path:object_id>/change/": {"value": "matrix"},
        "admin/safety/secret/<path:object_id>/delete/": {"post": "yes"},
        "admin/safety/secretrule/add/": {"prefix": "new"},
        "admin/safety/secretrule/<path:object_id>/change/": {"prefix": "changed"},
        "admin/safety/secretrule/<path:object_id>/delete/": {"post": "yes"},
        "admin/safety/maskingrule/add/": {"name": "new", "expression": "ACME-[0-9]{8}", "enabled": "on"},
        "admin/safety/maskingrule/<path:object_id>/change/": {"name": "changed", "expression": "ACME-[0-9]{9}"},
        "admin/safety/maskingrule/<path:object_id>/delete/": {"post": "yes"},
        "admin/safety/timeoutpolicy/<path:object_id>/change/": {
            "sla_class": "fast", "action_class": "read", "step_seconds": "1", "execution_seconds": "2",
            "approval_seconds": "3", "max_attempts": "1",
        },
    }  # fmt: skip
    return {"reason": "matrix", **forms.get(route, {})}
