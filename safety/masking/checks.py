"""System checks: a sink without the masker stops the start instead of letting secrets through."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from safety.masking import logs
from safety.masking.error_pages import MaskingExceptionReporter

UNGUARDED_HANDLER = "safety.E001"
UNGUARDED_CONFIGURATION = "safety.E002"
UNGUARDED_ERROR_PAGES = "safety.E003"
UNGUARDED_TRACEBACKS = "safety.E004"

_FILTER = f"{logs.__name__}.{logs.MaskingFilter.__name__}"


def check_sinks(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for everything that writes and does not mask."""
    return [*_handlers(), *_configuration(), *_error_pages(), *_tracebacks()]


def _handlers() -> list[CheckMessage]:
    return [
        Error(
            f"The log handler {type(handler).__name__} of the logger '{name}' does not mask secrets.",
            hint="Add it with Logger.addHandler, which guards it, or put MaskingFilter on it.",
            id=UNGUARDED_HANDLER,
        )
        for name, handler in logs.all_handlers()
        if not logs.is_guarded(handler)
    ]


def _configuration() -> list[CheckMessage]:
    logging: dict[str, Any] = settings.LOGGING
    filters: dict[str, dict[str, Any]] = logging.get("filters", {})
    handlers: dict[str, dict[str, Any]] = logging.get("handlers", {})
    masking = {name for name, made in filters.items() if made.get("()") in (_FILTER, logs.MaskingFilter)}
    return [
        Error(
            f"The handler '{name}' in LOGGING does not mask secrets.",
            hint=f"Give it a filter made by {_FILTER}.",
            id=UNGUARDED_CONFIGURATION,
        )
        for name, handler in handlers.items()
        if not masking & set(handler.get("filters", ()))
    ]


def _error_pages() -> list[CheckMessage]:
    if issubclass(import_string(settings.DEFAULT_EXCEPTION_REPORTER), MaskingExceptionReporter):
        return []
    return [
        Error(
            "Django's error pages do not mask secrets.",
            hint="Set DEFAULT_EXCEPTION_REPORTER to safety.masking.error_pages.MaskingExceptionReporter.",
            id=UNGUARDED_ERROR_PAGES,
        )
    ]


def _tracebacks() -> list[CheckMessage]:
    if sys.excepthook is logs.print_masked:
        return []
    return [
        Error(
            "Tracebacks that nobody catches are printed without masking secrets.",
            hint="Something replaced sys.excepthook after the start: let it call safety.masking.logs.print_masked.",
            id=UNGUARDED_TRACEBACKS,
        )
    ]
