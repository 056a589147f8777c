"""The filters of an asset-query. Each is used or refused: one that were ignored would widen what a plan touches."""

from __future__ import annotations

import functools
import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from django.db.models import Q

from executions.models import Asset

MAX_ROWS = 10_000

# What a row shows, by the field names of the asset service. Nothing that helps to sign in anywhere.
ROW_FIELDS = (
    "id", "name", "hostname", "ip_address", "description", "tags", "device_type", "os_type", "os_version", "status",
    "environment", "criticality", "owner", "support_contact", "service_type", "port", "is_active", "connection",
    "created_at", "updated_at",
)  # fmt: skip

Filter = Callable[[str, object], Q]
"""(name of the filter, its value) -> condition. Raises ValueError with a sentence when the value cannot be meant."""


def asset_condition(filters: Mapping[str, object]) -> tuple[Q, int]:
    """Return the condition that all filters make together, and the greatest number of rows.

    A list means one of its values, except for `tags`, where every one of them has to be there. Inactive assets are
    left out unless `is_active` is asked for. Raises ValueError with a sentence that says what is wrong.
    """
    unknown = sorted(set(filters) - set(FILTERS) - {"limit"})
    if unknown:
        known = ", ".join(sorted([*FILTERS, "limit"]))
        raise ValueError(f"The filter {', '.join(map(repr, unknown))} is not known; the filters are {known}.")
    condition = Q() if "is_active" in filters else Q(is_active=True)
    for name, value in filters.items():
        if name != "limit":
            condition &= FILTERS[name](name, value)
    return condition, _limit(filters.get("limit", MAX_ROWS))


def check_fields(fields: Sequence[str] | None) -> tuple[str, ...]:
    """Return the fields of the rows. Raises ValueError with a sentence for a field that rows do not have."""
    if fields is None:
        return ROW_FIELDS
    unknown = [field for field in fields if field not in ROW_FIELDS]
    if unknown:
        raise ValueError(
            f"The field {', '.join(map(repr, unknown))} is not known; the fields are {', '.join(ROW_FIELDS)}."
        )
    return tuple(dict.fromkeys(fields))


def _texts(name: str, value: object) -> list[str]:
    """Return the texts that a filter names: one or more, none of them empty."""
    values = value if isinstance(value, list | tuple) else [value]
    texts = [item.strip() for item in values if isinstance(item, str) and "\x00" not in item]
    if not texts or len(texts) != len(values) or not all(texts):
        raise ValueError(f"The filter {name!r} needs a text, or a list of texts, none of them empty.")
    return texts


def _any_of(conditions: Iterable[Q]) -> Q:
    return functools.reduce(operator.or_, conditions)


def _same_word(column: str) -> Filter:
    """One of the words, without regard to case: `Linux` finds `linux`."""
    return lambda name, value: _any_of(Q(**{f"{column}__iexact": text}) for text in _texts(name, value))


def _exactly(column: str) -> Filter:
    return lambda name, value: Q(**{f"{column}__in": _texts(name, value)})


def _address(name: str, value: object) -> Q:
    try:
        return Q(ip_address__in=[str(ipaddress.ip_address(text)) for text in _texts(name, value)])
    except ValueError:
        raise ValueError(f"The filter {name!r} needs an IP address, or a list of them.") from None


def _any_tag(name: str, value: object) -> Q:
    return Q(tags__overlap=_texts(name, value))


def _all_tags(name: str, value: object) -> Q:
    return Q(tags__contains=_texts(name, value))


def _groups(name: str, value: object) -> Q:
    # By id, not by a join: an asset in two of the groups is one row.
    members = Asset.groups.through.objects.filter(assetgroup__name__in=_texts(name, value))
    return Q(pk__in=members.values("asset_id"))


def _ids(name: str, value: object) -> Q:
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [item for item in values if isinstance(item, int | str) and re.fullmatch(r"\d{1,30}", str(item))]
    if not numbers or len(numbers) != len(values):
        raise ValueError(f"The filter {name!r} needs the number of an asset, or a list of numbers.")
    return Q(pk__in=numbers)


def _yes_or_no(name: str, value: object) -> Q:
    meaning = {"true": True, "false": False}.get(str(value).lower())
    if meaning is None:
        raise ValueError(f"The filter {name!r} needs true or false.")
    return Q(**{name: meaning})


def _search(name: str, value: object) -> Q:
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise ValueError(f"The filter {name!r} needs a part of a name, a host name or a description.")
    part = value.strip()
    return Q(name__icontains=part) | Q(hostname__icontains=part) | Q(description__icontains=part)


def _limit(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_ROWS:
        raise ValueError(f"The filter 'limit' needs a whole number from 1 to {MAX_ROWS}.")
    return value


FILTERS: dict[str, Filter] = {
    "id": _ids,
    "name": _exactly("name"),
    "hostname": _same_word("hostname"),
    "ip_address": _address,
    "tag": _any_tag,
    "tags": _all_tags,
    "group": _groups,
    "groups": _groups,
    "connection": _same_word("connection"),
    "environment": _same_word("environment"),
    "os_type": _same_word("os_type"),
    "status": _same_word("status"),
    "criticality": _same_word("criticality"),
    "service_type": _same_word("service_type"),
    "device_type": _same_word("device_type"),
    "owner": _same_word("owner"),
    "is_active": _yes_or_no,
    "search": _search,
}
