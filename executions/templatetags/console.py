"""Tags that every page of the console uses: status chips, icons, times."""

from __future__ import annotations

from collections.abc import Sized
from datetime import datetime, timedelta

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from executions.pages.durations import span
from executions.pages.looks import Look, look_of

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon beside a text; it says nothing by itself."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("icons.svg"), name)


@register.simple_tag
def chip(status: str, text: str = "") -> SafeString:
    """A status: icon and word, in its colour."""
    look = look_of(status)
    return format_html(
        '<span class="chip" data-status="{}" title="It {}.">{}{}</span>',
        status, look.meaning, icon(look.icon), text or look.word,
    )  # fmt: skip


@register.simple_tag
def health_chip(look: Look) -> SafeString:
    """What the last check of an asset found: icon and word, in its colour."""
    return format_html(
        '<span class="chip" data-status="{}" title="It {}.">{}{}</span>',
        look.colour, look.meaning, icon(look.icon), look.word,
    )  # fmt: skip


@register.simple_tag
def status_icon(status: str) -> SafeString:
    """A status as an icon whose word is read out and shown on hovering: where there is no room for the word."""
    look = look_of(status)
    return format_html(
        '<span class="status-icon" data-status="{}" title="{}">{}<span class="sr">{}</span></span>',
        status, look.word, icon(look.icon), look.word,
    )  # fmt: skip


@register.filter
def word(status: str) -> str:
    """The word of a status."""
    return look_of(status).word


@register.filter
def span_of(value: timedelta | float | None) -> str:
    """A length of time."""
    return span(value)


@register.simple_tag
def ago(at: datetime | None) -> SafeString | str:
    """How long ago a time was; goes on counting in the browser."""
    if at is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{} UTC" data-ago>{} ago</time>',
        at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}", _past(at),
    )  # fmt: skip


@register.simple_tag
def left(until: datetime | None) -> SafeString | str:
    """How long it is until a time; goes on counting down in the browser."""
    if until is None:
        return ""
    seconds = (until - timezone.now()).total_seconds()
    return format_html(
        '<time class="num" datetime="{}" title="until {} UTC" data-until{}>{}</time>',
        until.isoformat(), f"{until:%Y-%m-%d %H:%M:%S}", format_html(" data-soon") if seconds < 60 else "",
        span(max(1, round(seconds))) if seconds > 0 else "none",
    )  # fmt: skip


def _past(at: datetime) -> str:
    seconds = max(0, int((timezone.now() - at).total_seconds()))
    return f"{seconds} s" if seconds < 60 else span(seconds)


@register.simple_tag
def elapsed(start: datetime | None, end: datetime | None) -> SafeString | str:
    """The time between two moments, or since the first one: then it goes on counting in the browser."""
    if start is None:
        return ""
    if end is not None:
        return format_html('<span class="num">{}</span>', span(end - start))
    return format_html('<span class="num" data-since="{}">{}</span>', start.isoformat(), span(timezone.now() - start))


@register.filter
def grouped(number: int) -> str:
    """A count with its thousands set apart."""
    return f"{number:,}"


@register.filter
def clock(at: datetime | None) -> str:
    """A time of day, to the second, in UTC."""
    return f"{at:%H:%M:%S}" if at else ""


@register.filter
def length_is_more(values: Sized, limit: int) -> bool:
    """Whether there are more than `limit` of them."""
    return len(values) > limit


@register.filter
def length_over(values: Sized, limit: int) -> int:
    """How many there are beyond `limit`."""
    return max(0, len(values) - limit)
