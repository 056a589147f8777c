"""The workers, for those who run the installation: who is there and how well, how many there are to be, who drains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from executions.api import cursors
from executions.api.answers import answer
from executions.api.base import OperatorsView, caller
from executions.api.bodies import ReasonBody
from executions.api.fleet_bodies import AutoscaleBody, DrainWorkersBody, ScaleBody
from executions.api.fleet_shapes import DecisionPage, Drained, Scaled, Sizing, Workers
from executions.api.problems import ApiProblem
from executions.api.reading import Query, read_body
from executions.api.schema import PAGING, call, parameter
from executions.services import Refused
from queueing import control, pool
from queueing.health import Health, with_health
from queueing.models import QueueControl, ScalingDecision, Worker, WorkerState
from queueing.pool import PoolRefused
from safety.scopes import Scope

RECENT = 500  # workers in an answer with the ended ones

# What PoolRefused can say, and its HTTP status is that of the code (codes.py).
STATUSES = {
    "too_few_processes": 422,
    "too_many_processes": 422,
    "bad_limits": 422,
    "bad_pool": 422,
    "no_cluster": 409,
    "unknown_worker": 404,
    "unknown_host": 404,
}


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what the pool refuses into a refusal with its HTTP status."""
    try:
        yield
    except PoolRefused as refused:
        raise Refused(refused.code, str(refused), refused.how_to_fix, status=STATUSES[refused.code]) from None


def worker_state(row: Worker, health: Health | None) -> dict[str, Any]:
    """One worker; `health` is None for one that has ended."""
    return {
        "id": row.pk,
        "cluster": row.cluster,
        "host": row.host,
        "pid": row.pid,
        "state": row.state,
        "draining": row.draining,
        "isolation": row.isolation,
        "version": row.version,
        "pools": row.pools,
        "regions": row.regions,
        "capabilities": row.capabilities,
        "slots": row.slots,
        "running": row.running,
        "finished": row.finished,
        "failed": row.failed,
        "loop_lag_ms": row.loop_lag_ms,
        "renewal_ms": row.renewal_ms,
        "rss_bytes": row.rss_bytes,
        "started_at": row.started_at,
        "last_beat_at": row.last_beat_at,
        "stopped_at": row.stopped_at,
        "silent": health is not None and health.silent,
        "healthy": None if health is None else health.healthy,
        "health": [] if health is None else list(health.said),
        "note": row.note,
    }


def there() -> QuerySet[Worker]:
    """The workers that have not ended, silent ones included, newest first."""
    return Worker.objects.filter(stopped_at=None).exclude(state=WorkerState.STOPPED).order_by("-pk")


def shown(rows: QuerySet[Worker]) -> list[dict[str, Any]]:
    """Workers as the calls give them."""
    return [worker_state(row, health) for row, health in with_health(rows)]


def sizing() -> dict[str, Any]:
    """What was decided on the number of workers, and what each cluster has."""
    return {**pool.sizing(), "clusters": [one.as_dict() for one in pool.manned_clusters()]}


class WorkersView(OperatorsView):
    """The worker processes."""

    @call(
        "workers_list",
        "List the worker processes and clusters, silent ones included; with `all=true` also the ended processes",
        scope=Scope.READ,
        tag="workers",
        gives=Workers,
        refuses=("forbidden", "invalid_parameter"),
        parameters=(parameter("all", "Also those that ended.", enum=("true", "false")),),
    )
    def get(self, request: Request) -> HttpResponse:
        everyone = Query(request, ("all",)).flag("all")
        figures = control.queue_figures()
        return answer(
            {
                "depth": figures["depth"],
                "waiting_seconds": figures["waiting_seconds"],
                "sizing": sizing(),
                "results": shown(Worker.objects.order_by("-pk")[:RECENT] if everyone else there()),
            }
        )


class ScaleView(OperatorsView):
    """More worker processes, or fewer."""

    @call(
        "workers_scale",
        "Set how many worker processes all clusters together have; ends autoscaling",
        scope=Scope.OPERATE,
        tag="workers",
        description="They share the number evenly, as far as each has room. Those that are too many hand back what "
        "they run between two steps and end; nothing is lost. It takes a second or so until they are there.",
        takes=ScaleBody,
        gives=Scaled,
        refuses=("forbidden", "too_few_processes", "too_many_processes", "no_cluster"),
        example={"processes": 6, "reason": "Patch night"},
        answer={"before": 2, "after": 6, "clusters": 1, "dry_run": False},
    )
    def post(self, request: Request) -> HttpResponse:
        body = ScaleBody.model_validate(read_body(request))
        with refusing():
            done = pool.scale(body.processes, by=caller(request).actor, reason=body.reason, dry_run=body.dry_run)
        return answer({"before": done.before, "after": done.after, "clusters": done.clusters, "dry_run": body.dry_run})


class AutoscaleView(OperatorsView):
    """As many worker processes as there is work for."""

    @call(
        "workers_autoscale",
        "Have clusters decide how many worker processes they have, only say what they would, or neither",
        scope=Scope.OPERATE,
        tag="workers",
        description="Each cluster decides from what waits for it and for how long; every decision is written down with "
        "its reason (GET /workers/scaling/).",
        takes=AutoscaleBody,
        gives=Sizing,
        refuses=("forbidden", "bad_limits"),
        example={"mode": "on", "min": 2, "max": 6, "reason": "Patch night"},
    )
    def post(self, request: Request) -> HttpResponse:
        body = AutoscaleBody.model_validate(read_body(request))
        now = QueueControl.objects.get()
        with refusing():
            pool.autoscale(
                body.mode,
                minimum=now.min_processes if body.min is None else body.min,
                maximum=now.max_processes if body.max is None else body.max,
                by=caller(request).actor,
                reason=body.reason,
            )
        return answer(sizing())


class ScalingView(OperatorsView):
    """Why there are as many as there are."""

    @call(
        "workers_scaling",
        "List the decisions on the number of worker processes, newest first, each with its reason",
        scope=Scope.READ,
        tag="workers",
        gives=DecisionPage,
        refuses=("forbidden", "invalid_parameter"),
        parameters=PAGING,
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, cursors.PARAMETERS)
        return cursors.page(request, query, ScalingDecision.objects.all(), pool.decision_as_dict)


Verb = Callable[..., int]


def _change(request: Request, verb: Verb, reason: str, **chosen: Any) -> HttpResponse:
    with refusing():
        changed = verb(by=caller(request).actor, reason=reason, **chosen)
    rows = there()
    if chosen.get("ids") is not None:
        rows = rows.filter(pk__in=chosen["ids"])
    if chosen.get("host"):
        rows = rows.filter(host=chosen["host"])
    return answer({"changed": changed, "running": pool.running_on(**chosen), "results": shown(rows)})


def _change_some(request: Request, verb: Verb) -> HttpResponse:
    body = DrainWorkersBody.model_validate(read_body(request))
    return _change(request, verb, body.reason, ids=body.ids, host=body.host or "")


def _change_one(request: Request, verb: Verb, worker_id: int) -> HttpResponse:
    body = ReasonBody.model_validate(read_body(request))
    if not there().filter(pk=worker_id).exists():
        raise ApiProblem("not_found", f"There is no worker {worker_id}, or it has ended.")
    return _change(request, verb, body.reason, ids=[worker_id])


_SOME = ("forbidden", "unknown_worker", "unknown_host")


class DrainWorkersView(OperatorsView):
    """Let workers claim nothing more."""

    @call(
        "workers_drain",
        "Have workers claim nothing more: all, some by their ids, or those of a host; what they run goes on",
        scope=Scope.OPERATE,
        tag="workers",
        description="They stay until they are undrained, and so does the drain when another process takes their place. "
        "`running` says what they still have: with 0 they can be taken away.",
        takes=DrainWorkersBody,
        gives=Drained,
        refuses=_SOME,
        example={"host": "ops-2", "reason": "Kernel update"},
    )
    def post(self, request: Request) -> HttpResponse:
        return _change_some(request, pool.drain_workers)


class UndrainWorkersView(OperatorsView):
    """Let workers claim again."""

    @call(
        "workers_undrain",
        "Have draining workers claim again: all, some by their ids, or those of a host",
        scope=Scope.OPERATE,
        tag="workers",
        takes=DrainWorkersBody,
        gives=Drained,
        refuses=_SOME,
        example={"host": "ops-2", "reason": "It is back"},
    )
    def post(self, request: Request) -> HttpResponse:
        return _change_some(request, pool.undrain_workers)


class DrainWorkerView(OperatorsView):
    """Let one worker claim nothing more."""

    @call(
        "worker_drain",
        "Have one worker claim nothing more; what it runs goes on",
        scope=Scope.OPERATE,
        tag="workers",
        takes=ReasonBody,
        gives=Drained,
        refuses=("forbidden", "not_found", "unknown_worker"),
        example={"reason": "It is slow"},
    )
    def post(self, request: Request, worker_id: int) -> HttpResponse:
        return _change_one(request, pool.drain_workers, worker_id)


class UndrainWorkerView(OperatorsView):
    """Let one worker claim again."""

    @call(
        "worker_undrain",
        "Have one draining worker claim again",
        scope=Scope.OPERATE,
        tag="workers",
        takes=ReasonBody,
        gives=Drained,
        refuses=("forbidden", "not_found", "unknown_worker"),
        example={"reason": "It was the disk"},
    )
    def post(self, request: Request, worker_id: int) -> HttpResponse:
        return _change_one(request, pool.undrain_workers, worker_id)
