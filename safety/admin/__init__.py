"""The admin pages of the safety layer; importing registers them."""

from safety.admin import people, policies, secrets

__all__ = ["people", "policies", "secrets"]
