"""Accounts: the first administrator, the roles of a user, and the tokens that programs sign in with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import timedelta

from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models import BooleanField, Case, Q, Value, When
from django.db.models.functions import Now

from safety.models import ApiToken, User
from safety.rbac import ROLES, Role

FIRST_ADMIN = "admin"
TOKEN_PREFIX = "oc_"  # recognisable: a leaked one can be found and masked
TOKEN_LIFETIME = timedelta(days=365)
LAST_USE_RESOLUTION = timedelta(minutes=1)  # not an UPDATE for every request

# Roles whose holders need the admin pages: they operate the queue and the DLQ there.
STAFF_ROLES = frozenset({Role.OPERATOR, Role.ADMIN})

_FIRST_ADMIN_LOCK = 0x6F636164  # advisory lock of ensure_first_admin; any number that nothing else here uses


class UnknownRole(ValueError):
    """There is no such role. The message names it and lists those that there are."""


def ensure_first_admin() -> str | None:
    """Make the user `admin` when there is no user at all; return its password, which is shown nowhere again.

    Returns None when somebody exists already. Of several processes at once, one makes it and gets the password.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_FIRST_ADMIN_LOCK])
        if User.objects.exists():
            return None
        password = secrets.token_urlsafe(18)
        admin = User.objects.create_superuser(FIRST_ADMIN, password=password)
        set_roles(admin, [Role.ADMIN])
    return password


def set_roles(user: User, roles: Collection[str]) -> frozenset[str]:
    """Give `user` exactly these roles; other groups of the user stay. Returns the roles held before.

    Operators and admins may enter the admin pages afterwards, others not (a superuser always). Raises UnknownRole.
    """
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise UnknownRole(f"There is no role {', '.join(map(repr, unknown))}; the roles are {', '.join(ROLES)}.")
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        held = set(user.groups.filter(name__in=ROLES).values_list("name", flat=True))
        user.groups.remove(*Group.objects.filter(name__in=held - set(roles)))
        user.groups.add(*(Group.objects.get_or_create(name=role)[0] for role in sorted(set(roles) - held)))
        user.is_staff = user.is_superuser or not STAFF_ROLES.isdisjoint(roles)
        user.save(update_fields=["is_staff"])
    return frozenset(held)


def issue_token(user: User, label: str = "", expires_in: timedelta = TOKEN_LIFETIME) -> str:
    """Make a bearer token for `user` and return its value. Only a hash is kept: the value cannot be shown again.

    Raises ValueError when `expires_in` is not in the future.
    """
    if expires_in <= timedelta(0):
        raise ValueError("A token must be valid for some time: give a longer time.")
    value = TOKEN_PREFIX + secrets.token_urlsafe(32)
    ApiToken.objects.create(user=user, label=label, digest=token_digest(value), expires_at=Now() + expires_in)
    return value


def authenticate_token(value: str) -> User | None:
    """Return the user that a token stands for; None when it is unknown, expired, revoked, or its user is inactive.

    Notes the time of use, at most once a minute. Expiry and use go by the database's clock. One query, seldom two.
    """
    if not value.startswith(TOKEN_PREFIX):
        return None
    token = (
        ApiToken.objects.select_related("user__tenant")
        .filter(digest=token_digest(value), revoked_at=None, user__is_active=True)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        .annotate(
            use_is_noted=Case(When(_use_not_noted(), then=Value(False)), default=True, output_field=BooleanField())
        )
        .first()
    )
    if token is None:
        return None
    if not token.use_is_noted:
        ApiToken.objects.filter(_use_not_noted(), pk=token.pk).update(last_used_at=Now())
    return token.user


def revoke_token(token_id: int) -> bool:
    """End a token at once. Returns False when there is no such token or it was revoked before."""
    return ApiToken.objects.filter(pk=token_id, revoked_at=None).update(revoked_at=Now()) == 1


def revoke_tokens_of(user: User) -> int:
    """End every token of `user` at once; return how many there were."""
    return ApiToken.objects.filter(user=user, revoked_at=None).update(revoked_at=Now())


def token_digest(value: str) -> str:
    """Return what is kept of a token. A plain hash is enough: the value is 256 random bits, not a password."""
    return hashlib.sha256(value.encode()).hexdigest()


def _use_not_noted() -> Q:
    return Q(last_used_at=None) | Q(last_used_at__lt=Now() - LAST_USE_RESOLUTION)
