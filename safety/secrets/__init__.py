"""The secrets manager: plans and assets name secrets by path, and a worker gets the value just before a step.

A value exists in the store, encrypted, and in the memory of the worker that uses it; nowhere else. Which store it is,
SECRETS_BACKEND says (`stores.py`). Paths belong to a tenant: what a store is asked for is made from the tenant's name,
here, and no path leads out of it. Source of the decisions: docs/decisions/0014.
"""

from safety.secrets.paths import check_key, check_path
from safety.secrets.stores import SecretStore, StoredSecret, configured_store
from safety.secrets.unavailable import SecretUnavailable

__all__ = ["SecretStore", "SecretUnavailable", "StoredSecret", "check_key", "check_path", "configured_store"]
