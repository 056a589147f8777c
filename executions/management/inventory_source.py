"""What commands of the inventory read: a file, a folder or standard input; and whose inventory it is."""

from __future__ import annotations

import sys
from pathlib import Path

from django.core.management.base import CommandError

from executions.inventory_files import FileContent
from executions.inventory_formats import FORMATS, UnknownFormat, read, read_path
from safety.models import Tenant


def read_source(file: str, format_name: str | None) -> FileContent:
    """Return what the file holds; - is standard input, whose format must be said. Raises CommandError."""
    try:
        if file != "-":
            return read_path(Path(file), format_name)
        if format_name is None:
            raise CommandError(f"Standard input has no name that tells its format: give --format {'|'.join(FORMATS)}.")
        return read(sys.stdin.buffer.read(), format_name)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
    except UnknownFormat as error:
        raise CommandError(str(error)) from None


def tenant_named(name: str) -> Tenant:
    """Raises CommandError."""
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        known = ", ".join(Tenant.objects.order_by("name").values_list("name", flat=True)[:20])
        raise CommandError(f"There is no tenant {name!r}; there are {known}.")
    return tenant
