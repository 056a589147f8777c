"""The tool catalog: every tool a step can name, read from YAML files when the process starts."""

from executions.tools.faults import CatalogError, CatalogFault
from executions.tools.loading import Catalog, get_catalog, load_catalog
from executions.tools.parameters import Parameter
from executions.tools.problems import InputProblem, InvalidInput
from executions.tools.tool import Tool

__all__ = [
    "Catalog",
    "CatalogError",
    "CatalogFault",
    "InputProblem",
    "InvalidInput",
    "Parameter",
    "Tool",
    "get_catalog",
    "load_catalog",
]
