"""Sign-in at the provider: there, and back."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from safety import audit, sign_in
from safety.rbac import roles_of
from safety.sso.client import Client
from safety.sso.configuration import Provider
from safety.sso.faults import SsoFault
from safety.sso.people import user_for

logger = logging.getLogger(__name__)

BEGUN = "sso_begun"  # in the session: state -> what belongs to it
MOST_BEGUN = 5  # tabs


@lru_cache(maxsize=4)
def _client(provider: Provider) -> Client:
    return Client(provider)


def client() -> Client:
    """The client of the configured provider; Http404 when there is none."""
    if settings.OIDC is None:
        raise Http404("Single sign-on is not set up here.")
    return _client(settings.OIDC)


@require_GET
@never_cache
def begin(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider. What comes back must fit what this session remembers."""
    try:
        begun = client().begin(_redirect_uri(request))
    except SsoFault as fault:
        return _refused(request, fault)
    kept = dict(list(request.session.get(BEGUN, {}).items())[1 - MOST_BEGUN :])
    kept[begun.state] = {"nonce": begun.nonce, "verifier": begun.verifier, "next": request.GET.get("next", "")}
    request.session[BEGUN] = kept
    return redirect(begun.url)


@require_GET
@never_cache
def back(request: HttpRequest) -> HttpResponse:
    """The browser comes back with a code, or with the provider's refusal."""
    provider = client().provider
    try:
        if error := request.GET.get("error"):  # first, for not every provider gives the state back with it
            raise SsoFault("sso_denied", f"The provider says: {error[:200]}.")
        begun = _take(request)
        claims = client().finish(
            request.GET.get("code", ""),
            redirect_uri=_redirect_uri(request),
            verifier=begun["verifier"],
            nonce=begun["nonce"],
        )
    except SsoFault as fault:
        return _refused(request, fault)
    try:
        user = user_for(claims, provider)
    except SsoFault as fault:
        return _refused(request, fault, claims["sub"])
    sign_in.sign_in(request, user, method=sign_in.SSO)
    if not roles_of(user):
        messages.warning(
            request,
            "You have no role here yet: none of your groups at the provider stands for one. You see only what you were"
            " given a right on; ask an administrator.",
        )
    return redirect(_own_page(request, begun["next"]))


@require_GET
@never_cache
def end(request: HttpRequest) -> HttpResponse:
    """Sign out at the provider as well, for who is signed out here."""
    return redirect(client().end_session_url(request.build_absolute_uri(reverse("login"))) or "login")


def _take(request: HttpRequest) -> dict[str, str]:
    """Return what the session remembers of this sign-in, and forget it: it counts once.

    Two requests with one state at the same moment may both find it; the provider takes a code once.
    """
    kept: dict[str, Any] = request.session.get(BEGUN, {})
    begun: dict[str, str] | None = kept.pop(request.GET.get("state", ""), None)
    if begun is None:
        raise SsoFault("sso_stale", "The state is not one of this session.")
    request.session[BEGUN] = kept
    request.session.save()
    return begun


def _redirect_uri(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("sso_back"))


def _own_page(request: HttpRequest, wanted: str) -> str:
    """`next` if it is a page of ours, else the list: nobody is led to another site."""
    hosts = {request.get_host()}
    if url_has_allowed_host_and_scheme(wanted, allowed_hosts=hosts, require_https=request.is_secure()):
        return wanted
    return resolve_url(settings.LOGIN_REDIRECT_URL)


def _refused(request: HttpRequest, fault: SsoFault, subject: str = "") -> HttpResponse:
    """`subject`: whose sign-in it was, once the provider has said so. Before that it may be anybody."""
    logger.warning("A sign-in at the provider was refused: %s", fault)
    audit.record_strangers_refusal(
        "session.sign_in", code=fault.code, reason=fault.detail, about=subject, data={"method": "sso"}
    )
    return render(request, "sign_in_refused.html", {"fault": fault, "sso": settings.OIDC}, status=fault.status)
