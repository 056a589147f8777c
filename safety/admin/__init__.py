"""The admin pages of the safety layer; importing registers them."""

from safety.admin import audit, people, policies, secrets

__all__ = ["audit", "people", "policies", "secrets"]
