"""Encrypt the secrets of the embedded store anew."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from safety.management.example_help import ExampleCommand
from safety.management.secret_command import told_as_refusal
from safety.secrets import configured_store
from safety.secrets.embedded import EmbeddedStore
from safety.secrets.keeping import rotate_keys


class Command(ExampleCommand):
    help = (
        "Encrypts every secret of every tenant anew with the first key of FIELD_ENCRYPTION_KEYS, while everything goes"
        " on. May be broken off and started again. Afterwards the old keys can be taken out of the setting."
    )
    example = """\
  export FIELD_ENCRYPTION_KEYS=NEW,OLD     # everywhere, then restart web and workers
  manage.py rotate_secrets
  export FIELD_ENCRYPTION_KEYS=NEW
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say how many there are")

    def handle(self, *args: Any, **options: Any) -> None:
        store = configured_store()
        if not isinstance(store, EmbeddedStore):
            raise CommandError(f"The secrets are kept by {store.name}, which has keys of its own: rotate them there.")
        with told_as_refusal():
            rotation = rotate_keys(store, by=None, dry_run=options["dry_run"])
        words = "would be encrypted" if options["dry_run"] else "encrypted"
        self.stdout.write(f"{rotation.done} {words} anew with the first key.")
        if rotation.unreadable:
            listed = "\n  ".join(rotation.unreadable[:50])
            raise CommandError(
                f"No key of FIELD_ENCRYPTION_KEYS opens {len(rotation.unreadable)} of them, which stay as they are:\n"
                f"  {listed}\nAdd the key that they were stored under and start again, or store their values again."
            )
