"""Django's pages and mails about an error: whatever they show of settings, request and variables is masked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter

from safety.masking import known
from safety.masking.keys import names_a_secret
from safety.masking.text import mask_text
from safety.masking.words import PLACEHOLDER


class MaskingExceptionReporter(ExceptionReporter):
    """The report on an exception, without secrets: the page with DEBUG, the text for scripts and mails."""

    def get_traceback_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_traceback_data()
        for name in ("filtered_POST_items", "request_GET_items", "request_COOKIES_items", "request_FILES_items"):
            if name in data:
                data[name] = _by_name(data[name])
        for frame in data.get("frames", ()):
            frame["vars"] = _by_name(frame["vars"])
        return data

    def get_traceback_html(self) -> SafeString:
        return mark_safe(mask_text(super().get_traceback_html(), known.everything()))  # Django made it, and escaped

    def get_traceback_text(self) -> SafeString:
        return mark_safe(mask_text(super().get_traceback_text(), known.everything()))


def _by_name(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Names with their values, those of secrets masked: on the page they stand apart, and no pattern sees both."""
    return [(name, PLACEHOLDER if names_a_secret(str(name)) else value) for name, value in items]
