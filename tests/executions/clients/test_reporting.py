"""What the web says of the services: every process's breaker, and what all of them asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from executions.clients import AnswerLost, client, reporting
from executions.clients.breaker import FAILURES, OPEN_SECONDS
from executions.clients.client import Patience, ServiceClient
from executions.clients.reporting import BELIEVED_SECONDS, process_name, report
from executions.clients.traffic import traffic
from executions.models import ServiceStanding, ServiceTraffic
from safety.models import Tenant, User
from tests.contract.conftest import settings_of
from tests.contract.fake_services import Answer, FakeAssetService
from tests.installations import wait_until

pytestmark = pytest.mark.django_db
ONCE = Patience(read=2.0, total=2.0, retries=0.0)


@pytest.fixture
def service(asset_server: FakeAssetService, settings: Settings, quick: None) -> Iterator[ServiceClient]:
    settings.ASSET_SERVICE = settings_of(asset_server)
    traffic.take()
    reporting._told = {}
    made = ServiceClient(settings.ASSET_SERVICE, probe_path="/health")
    made.put_in_use()
    yield made
    client.in_use.clear()
    traffic.take()


def said() -> tuple[str, str]:
    checks = Client().get("/readyz").json()["checks"]
    return next((check["status"], check["reason"]) for check in checks if check["name"] == "services")


def metric(name: str, **labels: str) -> float | None:
    text = Client().get("/metrics").content.decode()
    return next(
        (
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ),
        None,
    )


def break_it(service: ServiceClient, server: FakeAssetService) -> None:
    server.always = Answer(500, {"detail": "boom"})
    for _ in range(FAILURES):
        with pytest.raises(AnswerLost):
            service.get("/", patience=ONCE)


def test_without_services_there_is_nothing_to_ask() -> None:
    assert said() == ("pass", "None is configured: the embedded inventory and connectors serve.")


def test_a_service_that_fails_is_told_with_the_reason_and_the_processes(
    service: ServiceClient, asset_server: FakeAssetService
) -> None:
    service.get("/health", patience=ONCE)
    assert said() == ("pass", "The asset service answers 1 process.")
    break_it(service, asset_server)
    status, reason = said()
    assert status == "warn"
    assert "left alone by 1 of 1 processes" in reason
    assert process_name() in reason
    assert "The asset service answered 500." in reason
    assert "boom" not in reason, "what the service says itself is not for everybody"
    assert not ServiceStanding.objects.filter(reason__contains="boom").exists()
    assert metric("opsconductor_service_breakers", service="asset", state="open") == 1
    operator = User.objects.create_superuser("op", tenant=Tenant.objects.get(name="default"), is_staff=True)
    browser = Client()
    browser.force_login(operator, backend="safety.backends.PasswordBackend")
    assert "The asset service is left alone by 1 of 1 processes" in browser.get("/admin/").content.decode()


def test_breakers_of_other_processes_count_while_they_tell_of_them(service: ServiceClient) -> None:
    report(at_once=True)
    theirs = ServiceStanding.objects.create(
        service="asset",
        process="worker-host/7",
        state="open",
        failures=9,
        reason="The asset service refuses. password=hunter2",
    )
    status, reason = said()
    assert (status, "worker-host/7 (open). The asset service refuses." in reason) == ("warn", True)
    assert "1 of 2" in reason
    assert "hunter2" not in reason
    theirs.reported_at = timezone.now() - timedelta(seconds=BELIEVED_SECONDS + 5)
    theirs.save()
    assert said()[0] == "pass"
    theirs.reported_at = timezone.now() - timedelta(days=2)
    theirs.save()
    report(at_once=True)
    assert [one.process for one in ServiceStanding.objects.all()] == [process_name()]


def test_since_when_it_is_so_is_kept_while_nothing_changes(
    service: ServiceClient, asset_server: FakeAssetService
) -> None:
    report(at_once=True)
    long_ago = timezone.now() - timedelta(hours=3)
    ServiceStanding.objects.update(changed_at=long_ago)
    report(at_once=True)
    assert ServiceStanding.objects.get().changed_at == long_ago
    break_it(service, asset_server)
    report()
    assert ServiceStanding.objects.get().changed_at > long_ago


def test_nothing_is_written_as_long_as_nothing_changes(
    service: ServiceClient, django_assert_num_queries: object
) -> None:
    report()
    with django_assert_num_queries(0):  # type: ignore[operator]
        report()


def test_a_service_that_is_well_again_is_found_out_though_nobody_asks_for_anything(
    service: ServiceClient, asset_server: FakeAssetService
) -> None:
    break_it(service, asset_server)
    asset_server.always = None
    service.breaker._clock = lambda: service.breaker._open_until + OPEN_SECONDS
    assert said()[0] == "warn"  # this look has it probed
    wait_until(lambda: service.breaker.standing().state == "closed", what="the probe")
    assert said()[0] == "pass"
    assert asset_server.seen[-1].path == "/health"


def test_requests_of_every_process_are_counted_and_nothing_is_lost(
    service: ServiceClient, asset_server: FakeAssetService
) -> None:
    ServiceTraffic.objects.create(
        service="asset", outcome="ok", requests=40, retried=0, seconds=4, buckets=[40, *[0] * 12]
    )
    asset_server.planned = [Answer(500)]
    service.get("/health", patience=Patience(retries=5.0))
    assert metric("opsconductor_service_requests_total", service="asset", outcome="ok") == 41
    assert metric("opsconductor_service_requests_total", service="asset", outcome="answer_lost") == 1
    assert metric("opsconductor_service_retries_total", service="asset", outcome="answer_lost") == 1
    assert metric("opsconductor_service_request_seconds_count", service="asset", outcome="ok") == 41
    assert metric("opsconductor_service_request_seconds_bucket", service="asset", outcome="ok", le="+Inf") == 41
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE executions_servicetraffic RENAME TO gone")
    service.get("/health", patience=ONCE)
    assert metric("opsconductor_scrape_failed", group="services") == 1
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE gone RENAME TO executions_servicetraffic")
    assert metric("opsconductor_service_requests_total", service="asset", outcome="ok") == 42


@pytest.mark.django_db(transaction=True)
def test_processes_that_count_at_the_same_time_add_up(service: ServiceClient) -> None:
    for number in range(40):
        traffic.note("asset", "ok" if number % 2 else "declined", 0.02)
    barrier = threading.Barrier(4)

    def tell() -> None:
        barrier.wait()
        try:
            for _ in range(5):
                traffic.note("asset", "ok", 0.02)
                traffic.note("automation", "declined", 0.02)
                report(at_once=True)
        finally:
            connection.close()

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report(at_once=True)
    assert {(one.service, one.outcome): one.requests for one in ServiceTraffic.objects.all()} == {
        ("asset", "ok"): 40, ("asset", "declined"): 20, ("automation", "declined"): 20,
    }  # fmt: skip
    assert all(sum(one.buckets) == one.requests for one in ServiceTraffic.objects.all())
