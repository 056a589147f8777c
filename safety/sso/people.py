"""From claims to a user: who it is, where they belong, and which roles they have today."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from safety.accounts import set_roles
from safety.models import ExternalIdentity, Tenant, User
from safety.sso.configuration import Provider
from safety.sso.faults import SsoFault

LONGEST_SUBJECT = 255
LONGEST_NAME = 120


def user_for(claims: Mapping[str, Any], provider: Provider) -> User:
    """Return the user that these checked claims are of, made at the first sign-in, with the roles of today.

    Bound to issuer and subject: an equal name or e-mail address of a local account means nothing. Raises SsoFault.
    """
    subject = claims["sub"]
    if not 0 < len(subject) <= LONGEST_SUBJECT or "\0" in subject:
        raise SsoFault("sso_bad_token", "The subject cannot be stored.")
    tenant = _tenant(claims, provider)
    try:
        with transaction.atomic():
            return _known_or_new(claims, provider, subject, tenant)
    except IntegrityError:  # two first sign-ins of one person at once: the other one made them
        with transaction.atomic():
            return _known_or_new(claims, provider, subject, tenant)


def roles_for(claims: Mapping[str, Any], provider: Provider) -> list[str]:
    """Return the roles that the person's groups stand for."""
    told = claims.get(provider.groups_claim)
    groups = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    return sorted({role for group in groups if isinstance(group, str) for role in provider.group_roles.get(group, ())})


def _known_or_new(claims: Mapping[str, Any], provider: Provider, subject: str, tenant: Tenant) -> User:
    known = ExternalIdentity.objects.filter(issuer=provider.issuer, subject=subject).select_related("user").first()
    user = known.user if known else _new(claims, provider, subject, tenant)
    if user.tenant_id != tenant.pk:
        raise SsoFault("sso_other_tenant", f"{user.username} is not of the tenant {tenant.name}.")
    if not user.is_active:
        raise SsoFault("sso_closed", f"{user.username} is not active.")
    user.first_name = _text(claims, "given_name")[:150]
    user.last_name = _text(claims, "family_name")[:150]
    user.email = _text(claims, "email")[:254]
    user.save(update_fields=["first_name", "last_name", "email"])
    set_roles(user, roles_for(claims, provider))
    user.refresh_from_db(fields=["is_staff"])
    return user


def _new(claims: Mapping[str, Any], provider: Provider, subject: str, tenant: Tenant) -> User:
    user = User.objects.create_user(_free_name(claims, provider, subject), tenant=tenant)
    ExternalIdentity.objects.create(user=user, issuer=provider.issuer, subject=subject)
    return user


def _free_name(claims: Mapping[str, Any], provider: Provider, subject: str) -> str:
    """The name the provider gives, as far as a user name can be it; with a mark when somebody has it already."""
    wished = _text(claims, "preferred_username") or subject
    name = re.sub(r"[^\w.@+-]+", "-", wished, flags=re.ASCII).strip("-")[:LONGEST_NAME] or "sso"
    if not User.objects.filter(username__iexact=name).exists():
        return name
    return f"{name}-{hashlib.sha256(f'{provider.issuer} {subject}'.encode()).hexdigest()[:8]}"


def _tenant(claims: Mapping[str, Any], provider: Provider) -> Tenant:
    name = _text(claims, provider.tenant_claim) if provider.tenant_claim else provider.tenant
    found = Tenant.objects.filter(name=name).first() if name else None
    if found is None:
        raise SsoFault("sso_no_tenant", f"There is no tenant {name!r}.")
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value.replace("\0", "") if isinstance(value, str) else ""
