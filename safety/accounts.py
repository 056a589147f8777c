"""Accounts: the first administrator, the roles of a user, and the tokens that programs sign in with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.db import connection, transaction
from django.db.models import Model, Value
from django.db.models.functions import Least, Now

from opsconductor.prepared import prepared_cursor
from safety import audit
from safety.models import ApiToken, Tenant, User, usable_now
from safety.rbac import ROLES, Role
from safety.scopes import ALL_SCOPES, allows, checked_scopes

FIRST_ADMIN = "admin"
TOKEN_PREFIX = "oc_"  # recognisable: a leaked one can be found and masked
TOKEN_LIFETIME = timedelta(days=365)
LAST_USE_RESOLUTION = timedelta(minutes=1)  # not an UPDATE for every request

# Roles whose holders need the admin pages: they operate the queue and the DLQ there.
STAFF_ROLES = frozenset({Role.OPERATOR, Role.ADMIN})

_FIRST_ADMIN_LOCK = 0x6F636164  # advisory lock of ensure_first_admin; any number that nothing else here uses

_USER_FIELDS = [field.attname for field in User._meta.concrete_fields]
_TENANT_FIELDS = [field.attname for field in Tenant._meta.concrete_fields]


def _columns(model: type[Model], alias: str) -> str:
    return ", ".join(f'{alias}."{field.column}"' for field in model._meta.concrete_fields)


# Asked by every request of a program: building the same query with the ORM costs ten times what asking it does.
_BEARER = f"""
SELECT token.id, token.scopes, token.expires_at,
       coalesce(token.last_used_at >= statement_timestamp() - %s::interval, false),
       {_columns(User, "owner")}, {_columns(Tenant, "tenant")}
  FROM safety_apitoken token
  JOIN safety_user owner ON owner.id = token.user_id
  JOIN safety_tenant tenant ON tenant.id = owner.tenant_id
 WHERE token.digest = %s AND token.revoked_at IS NULL AND owner.is_active
   AND (token.expires_at IS NULL OR token.expires_at > statement_timestamp())
"""
_NOTE_USE = """
UPDATE safety_apitoken SET last_used_at = statement_timestamp()
 WHERE id = %s AND (last_used_at IS NULL OR last_used_at < statement_timestamp() - %s::interval)
"""
# Held until the token that it makes is there: who revokes the maker waits for it, and then sees what it made.
_HOLD_MAKER = "SELECT 1 FROM safety_apitoken WHERE id = %s AND revoked_at IS NULL FOR SHARE"
# A token that was stolen may have made others before it was revoked: they go with it. The order is the same for all.
_LOCK_LINE = """
WITH RECURSIVE line AS (
    SELECT id FROM safety_apitoken WHERE id = ANY(%s)
    UNION
    SELECT made.id FROM safety_apitoken made JOIN line ON made.maker_id = line.id
)
SELECT id FROM safety_apitoken WHERE id IN (SELECT id FROM line) AND revoked_at IS NULL ORDER BY id FOR UPDATE
"""
_REVOKE = "UPDATE safety_apitoken SET revoked_at = statement_timestamp() WHERE id = ANY(%s) AND revoked_at IS NULL"


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


def set_roles(user: User, roles: Collection[str], *, by: User | None = None) -> frozenset[str]:
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
        if held != set(roles):
            audit.record(
                "user.set_roles", by=by, tenant_id=user.tenant_id, object_type="user", object_id=user.pk,
                object_name=user.username, data={"from": sorted(held), "to": sorted(set(roles))},
            )  # fmt: skip
    return frozenset(held)


def make_tenant(name: str, *, by: User | None = None) -> Tenant:
    """Make a tenant. Raises ValidationError when the name is none, or is taken."""
    tenant = Tenant(name=name)
    tenant.full_clean()
    with transaction.atomic():
        tenant.save(force_insert=True)
        audit.record("tenant.create", by=by, tenant_id=tenant.pk, **_named("tenant", tenant.pk, name))
    return tenant


def make_user(
    username: str,
    *,
    tenant: Tenant,
    password: str | None,
    email: str = "",
    roles: Collection[str] = (),
    by: User | None = None,
) -> User:
    """Make a user of a tenant; with no password nobody signs in with one. Raises ValidationError, UnknownRole."""
    user = User(username=username, email=email, tenant=tenant)
    user.set_unusable_password()
    user.full_clean()
    if password is not None:
        validate_password(password, user)
        user.set_password(password)
    with transaction.atomic():
        user.save(force_insert=True)
        audit.record("user.create", by=by, tenant_id=tenant.pk, **_named("user", user.pk, username))
        set_roles(user, roles, by=by)
    return user


def _named(kind: str, number: int, name: str) -> dict[str, Any]:
    return {"object_type": kind, "object_id": number, "object_name": name}


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that was presented and is good: who it stands for, and what it may be used for."""

    token_id: int
    user: User
    scopes: frozenset[str]
    expires_at: datetime | None
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was just made. `value` is nowhere else."""

    token: ApiToken
    value: str = field(repr=False)


class TooMuchForItsMaker(ValueError):
    """A token may make no other one that may do more than itself. `scopes` are those it lacks."""

    def __init__(self, scopes: list[str]) -> None:
        super().__init__(f"The token that asks lacks the scope {', '.join(scopes)}: it cannot give it.")
        self.scopes = scopes


class MakerRevoked(ValueError):
    """The token that asks for another one was revoked meanwhile."""


def make_token(
    user: User,
    *,
    label: str = "",
    expires_in: timedelta = TOKEN_LIFETIME,
    scopes: Iterable[str] = ALL_SCOPES,
    maker: Bearer | None = None,
    by: User | None = None,
) -> Issued:
    """Make a bearer token for `user`. Only a hash of its value is kept: it cannot be shown again.

    One that another token makes has no scope that its maker lacks, and ends no later than its maker does.
    Raises ValueError when `expires_in` is not in the future, UnknownScope, TooMuchForItsMaker, MakerRevoked.
    """
    if expires_in <= timedelta(0):
        raise ValueError("A token must be valid for some time: give a longer time.")
    wanted = checked_scopes(scopes)
    if maker is not None and (more := [scope for scope in wanted if scope not in maker.scopes]):
        raise TooMuchForItsMaker(more)
    ends: Any = Now() + expires_in
    if maker is not None and maker.expires_at is not None:
        ends = Least(ends, Value(maker.expires_at))
    value = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        if maker is not None:
            _hold_maker(maker)
        made = ApiToken.objects.create(
            user=user,
            label=label,
            digest=token_digest(value),
            expires_at=ends,
            scopes=wanted,
            maker_id=maker.token_id if maker else None,
        )
        made.refresh_from_db()  # the times are the database's
        audit.record(
            "token.create", by=by, tenant_id=user.tenant_id, object_type="token", object_id=made.pk,
            object_name=f"{label} of {user.username}".strip(), data={"scopes": wanted, "until": made.expires_at},
        )  # fmt: skip
    return Issued(made, value)


def _hold_maker(maker: Bearer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_HOLD_MAKER, [maker.token_id])
        if cursor.fetchone() is None:
            raise MakerRevoked("The token that asks was revoked: it makes no other one.")


def issue_token(user: User, label: str = "", expires_in: timedelta = TOKEN_LIFETIME) -> str:
    """Make a token with every scope and return its value: see `make_token`."""
    return make_token(user, label=label, expires_in=expires_in).value


def bearer_of(value: str) -> Bearer | None:
    """Return what a token stands for; None when it is unknown, expired, revoked, or its user is inactive.

    Notes the time of use, at most once a minute. Expiry and use go by the database's clock. One query, seldom two.
    """
    if not value.startswith(TOKEN_PREFIX):
        return None
    with prepared_cursor() as cursor:
        cursor.execute(_BEARER, [str(LAST_USE_RESOLUTION), token_digest(value)])
        row = cursor.fetchone()
        if row is None:
            return None
        token_id, scopes, expires_at, use_is_noted, *columns = row
        if not use_is_noted:
            cursor.execute(_NOTE_USE, [token_id, str(LAST_USE_RESOLUTION)])
    user = User.from_db(connection.alias, _USER_FIELDS, columns[: len(_USER_FIELDS)])
    user.tenant = Tenant.from_db(connection.alias, _TENANT_FIELDS, columns[len(_USER_FIELDS) :])
    return Bearer(token_id, user, frozenset(scopes), expires_at, value)


def authenticate_token(value: str, *, scope: str | None = None) -> User | None:
    """Return the user that a token stands for; None as for `bearer_of`, and when it lacks the scope that is named."""
    bearer = bearer_of(value)
    return bearer.user if bearer and (scope is None or allows(bearer.scopes, [scope])) else None


def good_tokens(values: Collection[str], *, scope: str) -> set[str]:
    """Return those of the tokens that are good, have the scope, and whose users are active. One query, no use noted."""
    by_digest = {token_digest(value): value for value in values}
    good = ApiToken.objects.filter(usable_now(), digest__in=by_digest, scopes__contains=[scope], user__is_active=True)
    return {by_digest[digest] for digest in good.values_list("digest", flat=True)}


def revoke_token(token_id: int, *, by: User | None = None) -> bool:
    """End a token at once, with all that it made; return False when there is none, or it was revoked before."""
    with transaction.atomic():
        revoked = _revoke_lines([token_id])
        _record_revoked(revoked, by)
    return token_id in revoked


def revoke_tokens_of(user: User, *, by: User | None = None) -> int:
    """End every token of `user` at once, with all that they made; return how many there were."""
    with transaction.atomic():
        revoked = _revoke_lines(list(ApiToken.objects.filter(user=user).values_list("pk", flat=True)))
        _record_revoked(revoked, by)
    return len(revoked)


def _revoke_lines(roots: list[int]) -> list[int]:
    """Revoke these and all that was made with them, in the caller's transaction; return those that were not yet.

    A token of the line may be making another one right now. It holds itself FOR SHARE until that is committed, so the
    lock here waits for it; but the statement that waited saw the table as it was before. So look again, each time with
    a new snapshot, until nothing is left: by then every token of the line is locked and revoked, and a maker that comes
    later finds no row.
    """
    revoked: list[int] = []
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_LOCK_LINE, [roots])
            found = [pk for (pk,) in cursor.fetchall()]
            if not found:
                return revoked
            cursor.execute(_REVOKE, [found])
            revoked += found


def _record_revoked(token_ids: Collection[int], by: User | None) -> None:
    audit.record_many(
        [
            audit.Entry(
                action="token.revoke", by=by, tenant_id=token.user.tenant_id, object_type="token", object_id=token.pk,
                object_name=f"{token.label} of {token.user.username}".strip(),
            )
            for token in ApiToken.objects.select_related("user").filter(pk__in=token_ids).order_by("pk")
        ]
    )  # fmt: skip


def token_digest(value: str) -> str:
    """Return what is kept of a token. A plain hash is enough: the value is 256 random bits, not a password."""
    return hashlib.sha256(value.encode()).hexdigest()
