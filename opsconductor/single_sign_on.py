"""OIDC_*: whether and where people can sign in with single sign-on. What is set by halves stops the start."""

from __future__ import annotations

from urllib.parse import urlsplit

from opsconductor.environment import ConfigError, env_list, env_str
from safety.sso.configuration import Provider

ROLES = ("viewer", "requester", "approver", "operator", "admin")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def single_sign_on() -> Provider | None:
    """Return the provider, or None when OIDC_ISSUER is not set. Raises ConfigError."""
    issuer = env_str("OIDC_ISSUER", "")
    client_id = env_str("OIDC_CLIENT_ID", "")
    secret = env_str("OIDC_CLIENT_SECRET", None, secret=True)
    name = env_str("OIDC_NAME", "single sign-on")
    scopes = tuple(env_str("OIDC_SCOPES", "openid profile email").replace(",", " ").split())
    groups_claim = env_str("OIDC_GROUPS_CLAIM", "groups")
    group_roles = env_list("OIDC_GROUP_ROLES", [])
    tenant = env_str("OIDC_TENANT", "")
    tenant_claim = env_str("OIDC_TENANT_CLAIM", "")
    if not issuer:
        if client_id or secret or group_roles or tenant or tenant_claim:
            raise ConfigError("OIDC_ISSUER is not set, but other OIDC settings are: set it, or unset them.")
        return None
    if not client_id:
        raise ConfigError("OIDC_CLIENT_ID is not set: with OIDC_ISSUER it must be what the provider calls this client.")
    if tenant and tenant_claim:
        raise ConfigError("Both OIDC_TENANT and OIDC_TENANT_CLAIM are set: unset one of them.")
    if "openid" not in scopes:
        raise ConfigError("OIDC_SCOPES must contain openid: without it there is no sign-in.")
    return Provider(
        issuer=_checked_issuer(issuer),
        client_id=client_id,
        client_secret=secret,
        name=name,
        scopes=scopes,
        groups_claim=groups_claim,
        group_roles=_group_roles(group_roles),
        tenant="" if tenant_claim else tenant or "default",
        tenant_claim=tenant_claim,
    )


def _checked_issuer(issuer: str) -> str:
    parts = urlsplit(issuer)
    if not parts.hostname or parts.query or parts.fragment or parts.scheme not in ("https", "http"):
        raise ConfigError(f"OIDC_ISSUER must be an address such as https://id.example.org, not {issuer!r}.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ConfigError(
            "OIDC_ISSUER must begin with https://: over http anybody on the way could sign in as anybody."
        )
    return issuer


def _group_roles(items: list[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for item in items:
        group, equals, role = (part.strip() for part in item.rpartition("="))
        if not equals or not group or role not in ROLES:
            raise ConfigError(
                f"OIDC_GROUP_ROLES must list pairs such as ops=operator, with the roles {', '.join(ROLES)}; {item!r}"
                " is none."
            )
        found[group] = (*found.get(group, ()), role)
    return found
