"""Nothing that this program logs, prints when it fails, or shows on an error page has a secret in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.test import RequestFactory, override_settings
from django.views.debug import technical_500_response

from opsconductor import settings as installed
from safety.masking import checks, known, logs
from safety.masking.error_pages import MaskingExceptionReporter
from safety.masking.own import own_secrets
from tests.installations import clean_environment

VALUE = "Xk9-unlikely-value-42"


class Json(logging.Formatter):
    """As structured logs are written: everything that is on the record, extras included."""

    def format(self, record: logging.LogRecord) -> str:
        everything = {**vars(record), "message": record.getMessage(), "text": super().format(record)}
        return json.dumps(everything, default=repr)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler writes that was added after the start."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json())
    for logger in (logging.getLogger(), logging.getLogger("django-q")):  # the second one does not pass on to the first
        logger.addHandler(handler)
    known.hold([VALUE])
    yield stream
    known.release([VALUE])
    for logger in (logging.getLogger(), logging.getLogger("django-q")):
        logger.removeHandler(handler)


class Opaque:
    def __repr__(self) -> str:
        return f"<Opaque with {VALUE}>"


def fail() -> None:
    raise RuntimeError(f"could not log in with {VALUE} and password=hunter2")


def log_message() -> None:
    logging.getLogger("a").warning(f"the value is {VALUE} and password=hunter2")


def log_arguments() -> None:
    logging.getLogger("a").warning("the value is %s, %r", VALUE, {"password": "hunter2"})


def log_named_arguments() -> None:
    logging.getLogger("a").warning("the value is %(a)s", {"a": VALUE})


def log_extras() -> None:
    extra = {"password": "hunter2", "deep": {"list": [VALUE]}, "object": Opaque(), "count": 3}
    logging.getLogger("a").warning("with extras", extra=extra)


def log_exception() -> None:
    try:
        fail()
    except RuntimeError:
        logging.getLogger("a").exception("it failed")


def log_chained_exception() -> None:
    try:
        try:
            fail()
        except RuntimeError as error:
            raise ValueError(f"again {VALUE}") from error
    except ValueError as error:
        logging.getLogger("a").error("it failed", exc_info=error)


def log_stack() -> None:
    logging.getLogger("a").warning("here, " + VALUE, stack_info=True)


def log_arguments_that_do_not_fit() -> None:
    logging.getLogger("a").warning("%d of %s", VALUE)


def log_as_django_q_does() -> None:
    logging.getLogger("django-q").error(f"Failed job: {VALUE} : password=hunter2")


def log_as_asyncio_does() -> None:
    async def lost() -> None:
        fail()

    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"Task {VALUE} was lost", "exception": RuntimeError(f"{VALUE} password=hunter2")}
        )

    asyncio.run(main())


@pytest.mark.parametrize(
    "write",
    [log_message, log_arguments, log_named_arguments, log_extras, log_exception, log_chained_exception, log_stack,
     log_arguments_that_do_not_fit, log_as_django_q_does, log_as_asyncio_does],
)  # fmt: skip
def test_no_record_has_a_secret_in_it(written: io.StringIO, write: object) -> None:
    assert callable(write)
    write()
    text = written.getvalue()
    assert "[masked]" in text
    assert VALUE not in text
    assert "hunter2" not in text


def test_what_is_no_secret_is_logged_as_it_was(written: io.StringIO) -> None:
    marker = object()
    logging.getLogger("a").warning("%s of %d done", "half", 3, extra={"count": 3, "thing": marker, "none": None})
    record = json.loads(written.getvalue())
    assert record["message"] == "half of 3 done"
    assert (record["count"], record["thing"], record["none"]) == (3, repr(marker), None)


def test_a_record_that_cannot_be_masked_says_nothing(written: io.StringIO) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError(VALUE)

    logging.getLogger("a").warning("x %s", VALUE, extra={"broken": Broken()})
    text = written.getvalue()
    assert "could not be masked" in text
    assert VALUE not in text


def test_a_handler_without_the_masker_fails_the_check() -> None:
    assert [error for error in run_checks(tags=["security"]) if error.id in IDS] == []
    slipped_in = logging.StreamHandler(io.StringIO())
    logging.getLogger("somewhere.deep").handlers.append(slipped_in)
    try:
        errors = [error for error in run_checks(tags=["security"]) if error.id in IDS]
    finally:
        logging.getLogger("somewhere.deep").handlers.remove(slipped_in)
    assert [error.id for error in errors] == [checks.UNGUARDED_HANDLER]
    assert "somewhere.deep" in errors[0].msg


IDS = {
    checks.UNGUARDED_HANDLER, checks.UNGUARDED_CONFIGURATION, checks.UNGUARDED_ERROR_PAGES, checks.UNGUARDED_TRACEBACKS,
}  # fmt: skip


def test_each_other_sink_without_the_masker_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {"version": 1, "handlers": {"file": {"class": "logging.FileHandler"}}}
    with override_settings(LOGGING=bare):
        assert [error.id for error in checks.check_sinks()] == [checks.UNGUARDED_CONFIGURATION]
    with override_settings(DEFAULT_EXCEPTION_REPORTER="django.views.debug.ExceptionReporter"):
        assert [error.id for error in checks.check_sinks()] == [checks.UNGUARDED_ERROR_PAGES]
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    assert [error.id for error in checks.check_sinks()] == [checks.UNGUARDED_TRACEBACKS]


def test_the_settings_of_an_installation_guard_every_handler() -> None:
    handlers: dict[str, Any] = installed.LOGGING["handlers"]  # type: ignore[assignment]
    assert handlers
    assert all("masking" in handler["filters"] for handler in handlers.values())


def test_error_pages_show_no_secret() -> None:
    known.hold([VALUE])
    try:
        secret_local = VALUE
        raise RuntimeError(f"no {secret_local}, password=hunter2")
    except RuntimeError:
        request = RequestFactory().post("/x/?token=abc123def", {"password": "hunter2", "plan": VALUE})
        with override_settings(DEBUG=True):
            page = technical_500_response(request, *sys.exc_info()).content.decode()
        text = MaskingExceptionReporter(request, *sys.exc_info()).get_traceback_text()
    finally:
        known.release([VALUE])
    for shown in (page, text):
        assert "RuntimeError" in shown
        for secret in (VALUE, "hunter2", "abc123def", settings.SECRET_KEY):
            assert secret not in shown


SCRIPT = """
import threading, django
django.setup()
from django.conf import settings
def fail():
    raise RuntimeError("lost " + settings.SECRET_KEY + " password=hunter2 " + settings.DATABASE_URL)
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Odd:
    def __del__(self): fail()
del Odd
x = type("Odd", (), {"__del__": lambda self: fail()})()
del x
import logging
logging.getLogger("app").error("key %s", settings.SECRET_KEY)
fail()
"""


def test_a_process_that_dies_prints_no_secret_of_its_settings() -> None:
    environment = clean_environment(
        DATABASE_URL=f"postgresql://app:{VALUE}@127.0.0.1:1/none",
        SECRET_KEY="not-to-be-seen-key-0123456789",
        SERVICE_TOKEN="service-token-0123456789",
        DJANGO_SETTINGS_MODULE="opsconductor.settings",
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert shown.count("[masked]") >= 8, shown
    assert shown.count("RuntimeError") == 3
    for secret in (VALUE, "not-to-be-seen-key", "hunter2"):
        assert secret not in shown


def test_own_secrets_are_found_by_the_names_of_settings_and_variables() -> None:
    class Settings:
        SECRET_KEY = "key-of-the-project"
        DATABASE_URL = "postgresql://app:p%40ss-word@db/x"
        DATABASES = {"default": {"USER": "postgres", "PASSWORD": "postgres", "NAME": "app"}}
        FIELD_ENCRYPTION_KEYS = ["first-key", "second-key"]
        PASSWORD_HASHERS = ["some.module.Hasher"]
        SESSION_ENGINE = "some.engine"

    environment = {"SERVICE_TOKEN": "service-token", "PWD": "/srv/app", "HOME": "/root", "PIN": "1"}
    assert own_secrets(Settings, environment) == {
        "key-of-the-project", "p%40ss-word", "p@ss-word", "first-key", "second-key", "service-token",
    }  # fmt: skip


def test_threads_and_handlers_may_come_and_go_meanwhile() -> None:
    """Holding and releasing from many threads ends with nothing held."""
    before = known.everything().count
    threads = [threading.Thread(target=_hold_and_release, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known.everything().count == before


def _hold_and_release(number: int) -> None:
    for turn in range(200):
        with known.held([f"value-{number}-{turn % 3}", "shared-value"]):
            logs.mask_record(logging.makeLogRecord({"msg": "shared-value"}))
