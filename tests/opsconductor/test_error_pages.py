"""What is said when something goes wrong: a way out, nothing secret, and a reference that is in the log."""

from __future__ import annotations

import logging
import re

import pytest
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.views.debug import ExceptionReporter

from opsconductor.environment import ConfigError, refuse_debug_for_others
from opsconductor.error_pages import QuietReporter
from opsconductor.urls import handler400, handler403, handler404, handler500

PAGES = [("/broken/", 500), ("/denied/", 403), ("/malformed/", 400), ("/x/", 404)]
CALLS = [("/api/broken/", "internal_error"), ("/api/denied/", "forbidden"), ("/api/x/", "not_found")]
SECRET = "hunter2-is-the-password"


def broken(request: HttpRequest) -> HttpResponse:
    password = SECRET
    raise RuntimeError(f"cannot connect with {password}")


def denied(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied(SECRET)


def malformed(request: HttpRequest) -> HttpResponse:
    raise BadRequest(SECRET)


urlpatterns = [
    path("broken/", broken), path("denied/", denied), path("malformed/", malformed), path("api/broken/", broken),
    path("api/denied/", denied),
]  # fmt: skip
handlers = (handler400, handler403, handler404, handler500)
pytestmark = pytest.mark.django_db  # refusals are recorded
ours = pytest.mark.urls("tests.opsconductor.test_error_pages")


@ours
@pytest.mark.parametrize(("address", "status"), PAGES)
def test_a_page_says_the_way_out_and_nothing_else(address: str, status: int) -> None:
    response = Client(raise_request_exception=False).get(address)
    page = response.content.decode()

    assert response.status_code == status
    assert 'href="/"' in page
    assert "OpsConductor" in page
    assert SECRET not in page
    assert "Traceback" not in page
    assert "style=" not in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@ours
@pytest.mark.parametrize(("address", "code"), CALLS)
def test_a_call_is_answered_with_a_problem(address: str, code: str) -> None:
    response = Client(raise_request_exception=False).get(address)

    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == code
    assert response.json()["how_to_fix"]
    assert SECRET not in response.content.decode()


@ours
@pytest.mark.parametrize("address", ["/broken/", "/api/broken/"])
def test_a_fault_has_a_reference_that_is_in_the_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        said = Client(raise_request_exception=False).get(address).content.decode()

    (reference,) = re.findall(r"\b[0-9a-f]{12}\b", said)
    record = next(record for record in caplog.records if reference in record.getMessage())
    told = f"{record.exc_info} {record.exc_text}"  # masking writes the trace out
    assert "RuntimeError" in told


def test_a_form_without_its_token_gets_a_page_of_ours() -> None:
    response = Client(enforce_csrf_checks=True).post("/login/", {"username": "x", "password": SECRET})

    assert response.status_code == 403
    assert "Nothing was sent" in response.content.decode()
    assert SECRET not in response.content.decode()


@override_settings(
    DATABASE_URL=f"postgresql://ops:{SECRET}@db/ops", SERVICE_TOKEN=SECRET, FIELD_ENCRYPTION_KEYS=[SECRET]
)
def test_a_debug_page_tells_no_secret_of_the_settings() -> None:
    dump = QuietReporter().get_safe_settings()
    told = str({name: dump[name] for name in ("DATABASE_URL", "SERVICE_TOKEN", "FIELD_ENCRYPTION_KEYS", "DATABASES")})

    assert SECRET not in told
    assert settings.SECRET_KEY not in str(dump)
    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {SECRET}", "Cookie": f"sessionid={SECRET}"})
    with override_settings(DEBUG=True):
        page = ExceptionReporter(request, RuntimeError, RuntimeError("x"), None).get_traceback_html()
    assert SECRET not in page


@pytest.mark.parametrize(
    ("bind", "database_url"),
    [("0.0.0.0", ""), ("10.1.1.1", ""), ("::", ""), ("127.0.0.1", "postgresql://db.example.org/ops")],
)
def test_debug_is_refused_where_others_would_see_it(bind: str, database_url: str) -> None:
    with pytest.raises(ConfigError, match="DEBUG"):
        refuse_debug_for_others(bind=bind, database_url=database_url)


@pytest.mark.parametrize(
    ("bind", "database_url"),
    [("127.0.0.1", ""), ("::1", "postgresql:///ops"), ("localhost", "postgresql://localhost/ops"),
     ("127.0.0.1", "postgresql://ops@/ops?host=/run/postgresql")],
)  # fmt: skip
def test_debug_is_for_ones_own_machine(bind: str, database_url: str) -> None:
    refuse_debug_for_others(bind=bind, database_url=database_url)
