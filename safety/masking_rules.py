"""The rows of the masking rules, and how a process keeps up with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError

from safety.masking import active
from safety.masking.custom import Unusable, check_expression, custom_pattern
from safety.masking.patterns import PATTERNS, Pattern
from safety.models import MaskingRule

log = logging.getLogger(__name__)

_told: set[tuple[str, str]] = set()


def load() -> tuple[object, Sequence[Pattern]]:
    """Read the rows: what they say, and the patterns that are on by them."""
    rows = tuple(MaskingRule.objects.order_by("name").values_list("name", "enabled", "expression"))
    enabled = {name: on for name, on, _ in rows}
    built_in = [pattern for pattern in PATTERNS if enabled.get(pattern.name, pattern.on)]
    names = {pattern.name for pattern in PATTERNS}
    own = [
        custom_pattern(name, expression)
        for name, on, expression in rows
        if on and name not in names and _is_usable(name, expression)
    ]
    return rows, [*built_in, *own]


def _is_usable(name: str, expression: str) -> bool:
    """Whether a row that came past the checks of the admin can be used; one that cannot harms no other."""
    try:
        check_expression(expression)
    except Unusable as problem:
        if (name, expression) not in _told:
            _told.add((name, expression))
            log.error("The masking rule '%s' is left out: %s", name, problem)
        return False
    return True


def refresh() -> None:
    """Use what the rows say, unless that was asked for within the last seconds. Raises DatabaseError."""
    active.refresh_if_old(load)


def changed() -> None:
    """A rule was changed in this process: it holds here at once, elsewhere within seconds."""
    active.expire()
    refresh()


def refresh_or_go_on() -> None:
    """The same for a request, which goes on with the last rules when the database does not answer."""
    try:
        refresh()
    except (DatabaseError, InterfaceError) as error:
        log.warning("The masking rules cannot be looked at; the last ones stay: %s", type(error).__name__)
