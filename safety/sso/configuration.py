"""What the environment says of the provider. Read at the start (opsconductor/single_sign_on.py); needs no Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Provider:
    """One OpenID Connect provider, and what its claims mean here.

    `tenant` is where its people belong, or `tenant_claim` names the claim that says so; exactly one of them is set.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    name: str
    scopes: tuple[str, ...]
    groups_claim: str
    group_roles: Mapping[str, tuple[str, ...]] = field(hash=False)
    tenant: str
    tenant_claim: str
