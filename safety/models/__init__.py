"""Who may do what, and for how long: tenants, users, tokens, idempotency keys, timeout policies, secrets, the audit."""

from safety.models.audit import AuditOutbox, AuditRecord, AuditSeal
from safety.models.external_identities import ExternalIdentity
from safety.models.failed_tries import FailedTries
from safety.models.idempotency import IdempotencyKey
from safety.models.limits import ActionClass, SlaClass, TimeoutPolicy
from safety.models.masking import MaskingRule
from safety.models.people import DEFAULT_TENANT, ApiToken, Tenant, User, usable_now
from safety.models.secrets import Secret, SecretRule
from safety.models.sessions import Session
from safety.models.stranger_refusals import StrangerRefusals

__all__ = [
    "DEFAULT_TENANT",
    "ActionClass",
    "ApiToken",
    "AuditOutbox",
    "AuditRecord",
    "AuditSeal",
    "ExternalIdentity",
    "FailedTries",
    "IdempotencyKey",
    "MaskingRule",
    "Secret",
    "SecretRule",
    "Session",
    "SlaClass",
    "StrangerRefusals",
    "Tenant",
    "TimeoutPolicy",
    "User",
    "usable_now",
]
