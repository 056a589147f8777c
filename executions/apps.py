import sys

from django.apps import AppConfig

SERVING = ("serve", "worker", "demo")


class ExecutionsConfig(AppConfig):
    name = "executions"
    verbose_name = "Executions"

    def ready(self) -> None:
        """Refuse to serve with a bad catalog. Raises CatalogError, which names every fault of every file."""
        if sys.argv[1:2] and sys.argv[1] in SERVING:
            from executions.tools import get_catalog

            get_catalog()
