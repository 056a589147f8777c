"""What the audit knows: a closed list, "noun.verb", each with the words that pages and exports show for it."""

from __future__ import annotations

ACTIONS: dict[str, str] = {
    # executions
    "execution.submit": "submitted an execution",
    "execution.retry": "retried an execution",
    "execution.approve": "approved an execution",
    "execution.reject": "rejected an execution",
    "execution.expire": "let an approval expire",
    "execution.invalidate": "invalidated an approval",
    "execution.withdraw_approval": "withdrew an approval",
    "execution.cancel": "cancelled an execution",
    "execution.resolve": "resolved a step",
    "execution.start": "started an execution",
    "step.approve": "approved a step",
    "step.reject": "rejected a step",
    "dead_letter.requeue": "requeued a DLQ entry",
    "dead_letter.discard": "discarded a DLQ entry",
    "dead_letter_batch.start": "began a DLQ batch",
    "dead_letter_batch.cancel": "cancelled a DLQ batch",
    # queue, workers, locks
    "queue.drain": "drained the queue",
    "queue.resume": "resumed the queue",
    "queue.pause": "paused a part of the queue",
    "queue.unpause": "took a pause back",
    "worker.drain": "drained workers",
    "worker.undrain": "took a drain of workers back",
    "pool.scale": "scaled the pool",
    "pool.autoscale": "changed autoscaling",
    "lock.free": "freed a lock",
    # inventory
    "asset.create": "added an asset",
    "asset.change": "changed an asset",
    "asset.delete": "removed an asset",
    "asset.import": "imported assets",
    "asset.pin_host_key": "pinned a host key",
    "asset.sync": "synced assets with their source",
    "asset_group.create": "added an asset group",
    "asset_group.change": "changed an asset group",
    "asset_group.delete": "removed an asset group",
    # people
    "tenant.create": "added a tenant",
    "tenant.change": "changed a tenant",
    "user.create": "added a user",
    "user.change": "changed a user",
    "user.set_password": "set a password",
    "user.set_roles": "set the roles of a user",
    "group.create": "added a group",
    "group.change": "changed a group",
    "group.delete": "removed a group",
    "permission.grant": "granted a permission",
    "permission.revoke": "revoked a permission",
    "token.create": "made a token",
    "token.revoke": "revoked a token",
    "session.sign_in": "signed in",
    "session.sign_out": "signed out",
    "session.end": "ended sessions",
    # secrets
    "secret.set": "stored a secret",
    "secret.rotate": "rotated keys of secrets",
    "secret.change": "changed a secret",
    "secret.delete": "removed a secret",
    "secret.use": "used a secret",
    # policies
    "policy.create": "added a policy",
    "policy.change": "changed a policy",
    "policy.delete": "removed a policy",
    "masking_rule.create": "added a masking rule",
    "masking_rule.change": "changed a masking rule",
    "masking_rule.delete": "removed a masking rule",
    # anything else that the admin pages change, and what is refused before it is known what was wanted
    "object.create": "added an object",
    "object.change": "changed an object",
    "object.delete": "removed an object",
    "access.use": "asked for something",
    "audit.export": "exported the audit",
    "audit.verify": "verified the audit",
    "audit.prune": "removed old audit records",
}


class UnknownAction(ValueError):
    """The audit has no such action: add it, with its words, to safety.audit.actions.ACTIONS."""


def checked(action: str) -> str:
    """Return the action. Raises UnknownAction when it is not on the list."""
    if action not in ACTIONS:
        raise UnknownAction(f"There is no audit action {action!r}: add it to safety.audit.actions.ACTIONS.")
    return action
