"""Secret references in the inputs of a step: which there are, and the inputs with values in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from executions.plans.secret_values import SecretReference, is_reference, read_reference


def references_in(value: object) -> frozenset[SecretReference]:
    """Return every secret that the inputs name, at whatever depth."""
    return frozenset(_walk(value))


def _walk(value: object) -> Iterator[SecretReference]:
    if isinstance(value, Mapping):
        if is_reference(value):
            yield read_reference(value)
            return
        for item in value.values():
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def with_values(value: Any, values: Mapping[SecretReference, str]) -> Any:
    """Return a copy of the inputs with each reference replaced. A value is text: nothing in it is looked at again."""
    if isinstance(value, Mapping):
        if is_reference(value):
            return values[read_reference(value)]
        return {key: with_values(item, values) for key, item in value.items()}
    return [with_values(item, values) for item in value] if isinstance(value, list) else value
