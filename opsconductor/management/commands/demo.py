"""manage.py demo: an installation on the embedded PostgreSQL that carries out one real plan on this machine."""

import os
import secrets
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from opsconductor import launch
from opsconductor.environment import ConfigError
from opsconductor.management.commands.serve import configured_address
from opsconductor.serving import Serving, first_free
from opsconductor.supervisor import Claim

PLAN = Path("examples") / "plans" / "host-health.yaml"
ADDRESS_IN_PLAN = "http://127.0.0.1:8000"  # replaced where the demo listens elsewhere
STOPPED_STATUS = 130


class Command(BaseCommand):
    help = f"""Show OpsConductor at work: serve on the embedded PostgreSQL and run {PLAN} on this machine.

The HTTP tool may reach this machine's loopback addresses (HTTP_ALLOWED_NETWORKS=127.0.0.0/8), because the plan asks
OpsConductor for its own health. When PORT (8000) is in use, the next free port is taken. Serves until Ctrl-C; with
--once it stops when the plan has ended, with its exit status: 0 succeeded, 1 ended otherwise.

Example: .venv/bin/python manage.py demo --once"""
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="stop when the plan has ended, with its exit status")

    def handle(self, *args: object, once: bool, **options: object) -> None:
        if settings.DATABASE_URL:
            raise CommandError("The demo uses the embedded PostgreSQL: unset DATABASE_URL (make demo does).")
        try:
            status = self._demonstrate(once)
        except ConfigError as refusal:
            raise CommandError(str(refusal)) from None
        self._say("Stopped.")
        if status:
            sys.exit(status)

    def _demonstrate(self, once: bool) -> int:
        wanted = configured_address()
        claim = Claim(settings.VAR_DIR, say=self._say)
        address = first_free(wanted)
        if address != wanted:
            self._say(f"Port {wanted.port} is in use: using {address.port}.")
        environment = {"HTTP_ALLOWED_NETWORKS": os.environ.get("HTTP_ALLOWED_NETWORKS") or "127.0.0.0/8"}
        os.environ.update(environment)  # run_plan and a preview see what web and worker see
        serving = Serving(claim, address, say=self._say, environment=environment)
        run = PlanRun(_plan_for(address.url), address.url)

        def begin() -> None:
            self._say(f"OpsConductor is ready at {address.url}/. Running {PLAN} on this machine:")
            run.start()

        def ended() -> bool:
            if run.has_just_ended():
                self._say(f"The plan ended with exit status {run.status}. Its page: {run.page()}")
                if not once:
                    self._say("Serving until Ctrl-C.")
            return once and run.status is not None

        try:
            serving.prepare()
            serving.run(on_ready=begin, until=ended)
        finally:
            run.stop()
            serving.stop()
        if not once:
            return 0
        return STOPPED_STATUS if run.status is None else run.status

    def _say(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()


class PlanRun:
    """The plan's execution, submitted and followed through the ordinary command."""

    def __init__(self, plan: Path, url: str) -> None:
        self.status: int | None = None
        self._url = url
        self._key = f"demo-{secrets.token_hex(8)}"  # every demo really runs its plan, a replay would show nothing
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run_plan", str(self._plan), "--follow"]
        watched = ["--parent", str(os.getpid()), "--death-signal", "15"]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, *watched, "--", *command, "--idempotency-key", self._key],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def has_just_ended(self) -> bool:
        """Say once that the command ended; its exit status is in `status` from then on."""
        if self._process is None or self.status is not None:
            return False
        status = self._process.poll()
        self.status = status if status is None or status >= 0 else 128 - status
        return self.status is not None

    def page(self) -> str:
        """Return the address of the execution's page."""
        from executions.models import Execution

        newest = Execution.objects.order_by("-id").first()
        return f"{self._url}/" if newest is None else f"{self._url}{reverse('executions:detail', args=[newest.pk])}"

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _plan_for(url: str) -> Path:
    """Return the plan's file; a copy under VAR_DIR with this installation's address when it differs from the plan's."""
    plan: Path = settings.BASE_DIR / PLAN
    if url == ADDRESS_IN_PLAN:
        return plan
    copy: Path = settings.VAR_DIR / "demo" / PLAN.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(plan.read_text(encoding="utf-8").replace(ADDRESS_IN_PLAN, url), encoding="utf-8")
    return copy
