"""What every answer carries, and what the settings behind a proxy make of it."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_network
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings

from opsconductor.security_headers import SecurityHeaders
from tests.executions.live.rows import PASSWORD, make_user
from tests.installations import clean_environment

PATHS = ["/", "/login/", "/api/v1/executions/", "/admin/", "/healthz", "/no/such/page", "/api/docs/"]
OUTSIDE = ["../../manage.py", "%2e%2e/%2e%2e/manage.py", "css/..%2f..%2fmanage.py", "/etc/passwd"]
POLICY = "Content-Security-Policy"
HTTPS = {"BEHIND_HTTPS": "1", "TRUSTED_PROXIES": "127.0.0.1", "ALLOWED_HOSTS": "ops.example.org"}


def of_settings(expression: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Evaluate an expression in a process that has read the settings from this environment."""
    program = f"from django.conf import settings; print({expression})"
    given = clean_environment(
        DATABASE_URL="postgresql:///unconnected", SECRET_KEY="k" * 60, FIELD_ENCRYPTION_KEYS="",
        DJANGO_SETTINGS_MODULE="opsconductor.settings", PYTHONPATH=str(settings.BASE_DIR), **environment,
    )  # fmt: skip
    return subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=False)


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_headers(path: str) -> None:
    response = Client().get(path)

    policy = response.headers[POLICY]
    for directive in ("default-src 'none'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert directive in policy
    assert "form-action 'self'" in policy
    assert "'unsafe-inline'" not in policy.replace("style-src-attr 'unsafe-inline'", "")
    assert ("'unsafe-eval'" in policy) == path.startswith("/admin/")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in response.headers["Permissions-Policy"]
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_static_files_may_be_kept_and_are_taken_for_nothing_else() -> None:
    response = Client().get("/static/css/tokens.css")

    assert "no-store" not in response.headers["Cache-Control"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.django_db
def test_no_file_outside_the_static_ones_is_served(path: str) -> None:
    response = Client().get(f"/static/{path}")

    assert response.status_code in (404, 302)


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost:80@evil.example", "[::1", ""])
def test_a_host_that_is_none_of_ours_is_refused(host: str) -> None:
    response = Client().get("/login/", headers={"Host": host})

    assert response.status_code == 400
    assert host == "" or host not in response.content.decode()


@pytest.mark.django_db
def test_a_sign_in_that_was_forged_by_another_page_is_refused() -> None:
    """Else somebody could be signed in as another, and write there what is theirs."""
    make_user("alice")
    client = Client(enforce_csrf_checks=True)

    response = client.post("/login/", {"username": "alice", "password": PASSWORD})

    assert response.status_code == 403
    assert "sessionid" not in client.cookies


@pytest.mark.parametrize(
    ("peer", "is_secure"), [("10.0.0.7", True), ("203.0.113.9", False), ("10.0.1.7", False), ("", False)]
)
def test_only_our_own_proxy_says_that_it_came_over_https(peer: str, is_secure: bool) -> None:
    seen: list[bool] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request.is_secure())
        return HttpResponse()

    with override_settings(
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"), TRUSTED_PROXIES=[ip_network("10.0.0.0/24")]
    ):
        SecurityHeaders(view)(RequestFactory().get("/", headers={"X-Forwarded-Proto": "https"}, REMOTE_ADDR=peer))

    assert seen == [is_secure]


def test_signing_out_may_lead_to_where_people_signed_in() -> None:
    """A browser asks form-action also about where the answer to a form leads."""
    with override_settings(OIDC=SimpleNamespace(issuer="https://login.example.org/realms/ops")):
        policy = SecurityHeaders(lambda request: HttpResponse())(RequestFactory().get("/")).headers[POLICY]

    assert "form-action 'self' https://login.example.org;" in policy


def test_behind_https_cookies_are_secure_and_plain_http_is_led_there() -> None:
    names = (
        "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_INCLUDE_SUBDOMAINS",
        "SESSION_COOKIE_HTTPONLY",
    )  # fmt: skip
    done = of_settings(f"([getattr(settings, name) for name in {names}], settings.SECURE_HSTS_SECONDS)", **HTTPS)

    assert done.stdout.strip() == "([True, True, True, True, True], 31536000)", done.stderr


def test_behind_https_without_a_proxy_to_believe_the_start_is_refused() -> None:
    done = of_settings("settings.DEBUG", BEHIND_HTTPS="1")

    assert done.returncode != 0
    assert "BEHIND_HTTPS needs TRUSTED_PROXIES" in done.stderr


def test_the_deployment_check_finds_nothing_to_warn_of() -> None:
    given = clean_environment(
        DATABASE_URL="postgresql:///unconnected", SECRET_KEY="x7Kq" * 4 + "".join(map(chr, range(65, 115))), **HTTPS
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        env=given, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout
