"""manage.py serve: the web server and the workers of one installation, in the foreground."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from opsconductor.environment import ConfigError, env_int, env_str, refuse_debug_for_others
from opsconductor.serving import Address, Serving
from opsconductor.supervisor import Claim


class Command(BaseCommand):
    help = """Serve this installation: bring the database up to date, start web server and workers, keep them running.

Stops on Ctrl-C or SIGTERM: the workers first (steps may end, up to 30 s), then the web server, then the embedded
PostgreSQL. Settings: PORT (8000), BIND (127.0.0.1), VAR_DIR (var/), DATABASE_URL; see docs/reference/settings.md.

Example: PORT=9000 .venv/bin/python manage.py serve"""
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, help="port to listen on (default: PORT, or 8000)")
        parser.add_argument("--bind", help="address to listen on (default: BIND, or 127.0.0.1)")

    def handle(self, *args: object, port: int | None, bind: str | None, **options: object) -> None:
        try:
            address = configured_address(port, bind)
            serving = Serving(Claim(settings.VAR_DIR, say=self._say), address, say=self._say)
            try:
                serving.prepare()
                if not address.is_free():
                    raise ConfigError(f"Port {address.port} of {address.bind} is in use: set PORT to a free one.")
                serving.run(on_ready=lambda: self._say(f"OpsConductor is ready at {address.url}/ (Ctrl-C stops it)."))
            finally:
                serving.stop()
        except ConfigError as refusal:
            raise CommandError(str(refusal)) from None
        self._say("Stopped.")

    def _say(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()


def configured_address(port: int | None = None, bind: str | None = None) -> Address:
    """Return where to listen: as given, or as PORT and BIND say. Raises ConfigError."""
    chosen = port if port is not None else env_int("PORT", 8000, minimum=1, maximum=65535)
    if not 1 <= chosen <= 65535:
        raise ConfigError(f"--port must be from 1 to 65535, not {chosen}.")
    address = Address(bind or env_str("BIND", "127.0.0.1"), chosen)
    if settings.DEBUG:
        refuse_debug_for_others(bind=address.bind, database_url=settings.DATABASE_URL)
    return address
