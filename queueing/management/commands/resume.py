"""`manage.py resume`: open the queue again after `drain`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from queueing import control


class Command(BaseCommand):
    help = "Open the queue again: intake and workers go on where they stopped. Example: manage.py resume"

    def handle(self, *args: Any, **options: Any) -> None:
        changed = control.resume(by="command")
        self.stdout.write("The queue is open again." if changed else "The queue was not drained.")
