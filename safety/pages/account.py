"""One's own account: who one is here, one's sessions, password and tokens."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from safety import accounts, audit, guessing, sign_in
from safety.client_address import client_address
from safety.models import ApiToken, Session, User, usable_now
from safety.rbac import roles_of
from safety.scopes import ALL_SCOPES, MEANINGS
from safety.sessions import end_sessions

MOST_DAYS = 365
USUAL_DAYS = 90
SHOWN = 200


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


def _name_of(session: Session) -> str:
    """What a page calls a session: its key would be the cookie, and so the session itself."""
    return hashlib.sha256(session.session_key.encode()).hexdigest()[:20]


@login_required
@never_cache
@require_GET
def account(request: HttpRequest) -> HttpResponse:
    """Who one is here, and where one is signed in."""
    user = _user(request)
    rows = Session.objects.of_nobody_else_than(user).order_by("-last_seen_at")[:SHOWN]
    context = {
        "nav": "account",
        "roles": sorted(roles_of(user)),
        "identity": getattr(user, "external_identity", None),
        "sessions": [(_name_of(row), row, row.session_key == request.session.session_key) for row in rows],
        "tokens": ApiToken.objects.filter(usable_now(), user=user).count(),
    }
    return render(request, "account/account.html", context)


@login_required
@require_POST
def end_session(request: HttpRequest) -> HttpResponse:
    """End one of one's sessions, or with `which=others` all but this one, or with `which=all` also this one."""
    user, which = _user(request), request.POST.get("which", "")
    with transaction.atomic():
        if which in ("all", "others"):
            ended = end_sessions(user, keep=request.session.session_key if which == "others" else None)
        else:
            found = [row.session_key for row in Session.objects.filter(user=user) if _name_of(row) == which]
            ended = end_sessions(user, only=found[0]) if found else 0
        if ended:
            audit.record(
                "session.end", by=user, object_type="user", object_id=user.pk, object_name=user.username,
                data={"sessions": ended},
            )  # fmt: skip
    if which == "all":
        sign_in.forget(request)
        return redirect("login")
    messages.success(request, f"{ended} session{'' if ended == 1 else 's'} ended.")
    return redirect("account")


class PasswordForm(PasswordChangeForm):
    """The password of now, and the new one twice. Guessing the first is slowed down as at the sign-in."""

    def __init__(self, user: User, address: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(user, *args, **kwargs)
        self.address = address

    def clean_old_password(self) -> str:
        try:
            made = guessing.begin_try(self.user.get_username(), self.address)
        except guessing.MustWait as wait:
            raise ValidationError(str(wait)) from None
        password: str = super().clean_old_password()
        guessing.was_right(made)
        return password


@sensitive_post_parameters()
@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """Another password; every other session of the account ends. Not for those who sign in at a provider."""
    user = _user(request)
    if not user.has_usable_password():
        raise Http404("This account has no password here.")
    form = PasswordForm(user, client_address(request), request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            update_session_auth_hash(request, user)
            end_sessions(user, keep=request.session.session_key)
            audit.record("user.set_password", by=user, object_type="user", object_id=user.pk, object_name=user.username)
        messages.success(request, "The password is changed. Every other session of yours has ended.")
        return redirect("account")
    return render(request, "account/password.html", {"nav": "account", "form": form})


class TokenForm(forms.Form):
    """A token to be made."""

    label = forms.CharField(max_length=120)
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in ALL_SCOPES],
        error_messages={"required": "Choose at least one scope.", "invalid_choice": "There is no scope %(value)s."},
    )
    days = forms.IntegerField(min_value=1, max_value=MOST_DAYS)


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """One's tokens, and a form for another one. Its value is on the page that answers the form, and never again."""
    user, made = _user(request), None
    form = TokenForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        lifetime = timedelta(days=given["days"])
        made = accounts.make_token(user, label=given["label"], scopes=given["scopes"], expires_in=lifetime, by=user)
        form = TokenForm()
    rows = ApiToken.objects.filter(user=user).annotate(is_usable=usable_now()).order_by("-is_usable", "-pk")[:SHOWN]
    chosen = form.data.getlist("scopes") if form.is_bound else ["read"]  # type: ignore[attr-defined]
    context = {
        "nav": "account",
        "form": form,
        "made": made,
        "rows": rows,
        "scopes": [(scope, MEANINGS[scope], scope in chosen) for scope in ALL_SCOPES],
        "all_scopes": len(ALL_SCOPES),
        "days": form.data.get("days", USUAL_DAYS) if form.is_bound else USUAL_DAYS,
        "most_days": MOST_DAYS,
    }
    return render(request, "account/tokens.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    """End one of one's tokens, and those that it made."""
    user = _user(request)
    if not ApiToken.objects.filter(pk=token_id, user=user).exists():
        raise Http404("You have no such token.")
    if accounts.revoke_token(token_id, by=user):
        messages.success(request, "The token is revoked.")
    return redirect("tokens")
