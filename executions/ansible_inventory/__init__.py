"""Inventories of Ansible, as INI, YAML and JSON, read as rows of assets. Nothing of them is executed or templated.

The readers are our own and know the common forms only: Ansible's would run plugins and templates that a file names, in
the process that read it. Source of the decision: docs/decisions/0025.
"""

from executions.ansible_inventory.reading import read_ini, read_json, read_path, read_yaml

__all__ = ["read_ini", "read_json", "read_path", "read_yaml"]
