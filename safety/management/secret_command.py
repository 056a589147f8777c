"""What the commands for secrets share: the tenant, the path, and refusals as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError, CommandParser

from safety.models import DEFAULT_TENANT, Tenant
from safety.secrets import SecretUnavailable


def add_tenant(parser: CommandParser) -> None:
    parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose secrets (%(default)s)")


def tenant_named(name: str) -> Tenant:
    """Raises CommandError, which lists the tenants that there are."""
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        known = ", ".join(Tenant.objects.order_by("name").values_list("name", flat=True)[:20])
        raise CommandError(f"There is no tenant {name!r}; there are {known}.")
    return tenant


@contextmanager
def told_as_refusal() -> Iterator[None]:
    """What the store or the rules of paths and values object to, as a CommandError."""
    try:
        yield
    except (ValueError, SecretUnavailable) as error:
        raise CommandError(str(error)) from None
