"""Liveness, readiness and metrics: for probes and scrapers, without a sign-in and without anything secret."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_prometheus.exports import ExportToDjangoView
from prometheus_client import CollectorRegistry, generate_latest

from executions.api.answers import answer
from monitoring.figures import DatabaseFigures
from monitoring.health import Health, process_health, readiness

_figures = CollectorRegistry(auto_describe=False)
_figures.register(DatabaseFigures())


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process answers."""
    return _shown(process_health())


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 while work can be taken in and carried out, else 503 with the reasons."""
    return _shown(readiness())


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The exposition for Prometheus: this process's own counters, then what the database says of the whole."""
    own: HttpResponse = ExportToDjangoView(request)
    own.content = own.content + generate_latest(_figures)
    return own


def _shown(health: Health) -> HttpResponse:
    return answer(health.as_dict(), 200 if health.ready else 503, {} if health.ready else {"Retry-After": "5"})
