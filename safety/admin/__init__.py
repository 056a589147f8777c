"""The admin pages of the safety layer; importing registers them."""

from safety.admin import audit, masking, people, policies, secrets

__all__ = ["audit", "masking", "people", "policies", "secrets"]
