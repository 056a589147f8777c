"""Commands whose --help ends with an example, its lines kept as they are written."""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class ExampleHelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's order of the options, and our own line ends in the text before and after them."""


class ExampleCommand(BaseCommand):
    """A command that shows `example` at the end of its --help.

    It makes no system checks, which load every page and the whole API: `serve` and `migrate` make them.
    """

    requires_system_checks = ()
    example: ClassVar[str] = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", ExampleHelpFormatter)
        kwargs.setdefault("epilog", f"example:\n{self.example.rstrip()}" if self.example else None)
        return super().create_parser(prog_name, subcommand, **kwargs)
