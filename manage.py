#!/usr/bin/env python
"""Entry point of every management command."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opsconductor.settings")
    from django.core.management import execute_from_command_line

    from opsconductor.environment import ConfigError
    from safety.origin import Door, set_process_origin

    set_process_origin(Door.WORKER if sys.argv[1:2] == ["worker"] else Door.COMMAND)
    try:
        execute_from_command_line(sys.argv)
    except ConfigError as refusal:
        sys.exit(str(refusal))


if __name__ == "__main__":
    main()
