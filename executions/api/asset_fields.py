"""The fields of an asset as a program sends them: with nulls, as the asset service has it, and words to check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from executions.inventory_files import CONNECTION_OF_SERVICE, WORDS, check_credential, check_word
from executions.inventory_writing import NEEDS_CONNECTION
from executions.models import Asset
from safety.masking.keys import names_a_secret

# Null says nothing of them, as it does in the asset service.
NULLABLE = (
    "hostname", "username", "domain", "credential", "device_type", "os_type", "os_version", "status", "environment",
    "criticality", "service_type", "credential_type", "secondary_service_type", "owner", "support_contact", "tags",
    "is_active", "external_id",
)  # fmt: skip
_CHECKED = (*(set(WORDS) - {"connection"}), "service_type", "secondary_service_type")
_SEVERAL_LINES = frozenset({"description", "host_key"})
LONGEST_SERVICES = 20_000  # characters of additional_services, as JSON


def as_stored(given: Mapping[str, Any], *, is_whole: bool) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the fields as they are stored, and the faults by field.

    A word that means nothing here is refused: a misspelt environment or criticality would ask for too little approval.
    is_whole: it is all of an asset, so it has to say how that is reached.
    """
    fields = {name: _default(name) if value is None else value for name, value in given.items()}
    faults: dict[str, list[str]] = {}
    for name, value in fields.items():
        try:
            fields[name] = _checked(name, value)
        except ValueError as fault:
            faults[name] = [str(fault)]
    if is_whole and "connection" not in fields:
        if connection := CONNECTION_OF_SERVICE.get(fields.get("service_type") or ""):
            fields["connection"] = connection
        else:
            faults["connection"] = [NEEDS_CONNECTION]
    return fields, faults


def _checked(name: str, value: Any) -> Any:
    if name == "additional_services":
        return _services(value)
    if not isinstance(value, str) or not value:
        return value
    if name not in _SEVERAL_LINES and not value.isprintable():
        raise ValueError("It holds a line break, or another character that cannot be seen.")
    if name == "credential":
        return check_credential(value)
    return check_word(name, value) if name in _CHECKED else value


def _services(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what else the asset offers. Raises ValueError for a secret by value: the row is for everybody to read."""
    if any(names_a_secret(str(key)) and value for service in listed for key, value in service.items()):
        raise ValueError("It holds a secret by value. Keep it with `manage.py set_secret PATH`, and leave it out here.")
    if len(json.dumps(listed)) > LONGEST_SERVICES:
        raise ValueError(f"It is longer than {LONGEST_SERVICES:,} characters.")
    return listed


def _default(name: str) -> Any:
    return [] if name == "groups" else getattr(Asset(), name)
