"""Asking the provider: discovery, keys, the code for an ID token, and whether that token is to be believed.

The protocol is Authlib's, the signatures are joserfc's. Discovery and keys are kept for an hour, and keys asked
for again when a token names one that is not among them: they rotate.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from django.db import connection
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, KeySet

from safety.sso.configuration import Provider
from safety.sso.faults import SsoFault
from safety.sso.remembered import Remembered

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
CLOCK_SKEW_SECONDS = 60
LONGEST_ANSWER = 1024 * 1024
# Public-key signatures alone. `none` is no signature, and with HS256 a public key would pass for a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
KEY_TYPES = ("RSA", "EC")


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that goes on at `url`. The rest is what the browser's session remembers of it until it comes back."""

    url: str
    state: str
    nonce: str
    verifier: str


class Client:
    """One provider, as one process knows it. Safe for many threads."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._metadata = Remembered("discovery", self._ask_discovery, while_away=True)
        # A key that the provider no longer vouches for is worth nothing, whether or not it can say so.
        self._keys = Remembered("its keys", self._ask_keys, while_away=False)

    def begin(self, redirect_uri: str) -> Begun:
        """Return where the browser is to go. Raises SsoFault(sso_unreachable)."""
        endpoint = self._endpoint("authorization_endpoint")
        nonce, verifier = generate_token(43), generate_token(64)
        url, state = self._session(redirect_uri).create_authorization_url(
            endpoint, state=generate_token(43), nonce=nonce, code_verifier=verifier
        )
        return Begun(url, state, nonce, verifier)

    def finish(self, code: str, *, redirect_uri: str, verifier: str, nonce: str) -> dict[str, Any]:
        """Return the claims of whoever signed in. Raises SsoFault; nothing is believed that is not checked."""
        endpoint = self._endpoint("token_endpoint")
        try:
            given = self._session(redirect_uri).fetch_token(
                endpoint, grant_type="authorization_code", code=code, code_verifier=verifier
            )
        except AuthlibBaseError as refused:
            raise SsoFault("sso_denied", f"The token endpoint refused the code: {refused.error}.") from None
        except (requests.RequestException, ValueError) as fault:
            raise _unreachable("the token endpoint", fault) from None
        token = given.get("id_token")
        if not isinstance(token, str):
            raise SsoFault("sso_bad_token", "The token endpoint gave no ID token.")
        claims = self._checked(token, nonce)
        if self.provider.groups_claim in claims or not given.get("access_token"):
            return claims
        return {**self._userinfo(str(given["access_token"]), claims["sub"]), **claims}

    def end_session_url(self, back_to: str) -> str | None:
        """Return where to sign out at the provider, or None when it offers nothing of the kind."""
        try:
            endpoint = self._discovered().get("end_session_endpoint")
        except SsoFault:
            return None
        if not isinstance(endpoint, str) or not self._is_trusted(endpoint):
            return None
        query = {"client_id": self.provider.client_id, "post_logout_redirect_uri": back_to}
        url: str | None = requests.Request("GET", endpoint, params=query).prepare().url
        return url

    def _session(self, redirect_uri: str) -> OAuth2Session:
        provider = self.provider
        return OAuth2Session(
            provider.client_id,
            provider.client_secret,
            token_endpoint_auth_method=self._auth_method(),
            scope=" ".join(provider.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            default_timeout=TIMEOUT_SECONDS,
        )

    def _auth_method(self) -> str:
        if self.provider.client_secret is None:
            return "none"
        offered = self._discovered().get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"

    def _endpoint(self, name: str) -> str:
        endpoint = self._discovered().get(name)
        if not isinstance(endpoint, str) or not self._is_trusted(endpoint):
            raise SsoFault("sso_unreachable", f"Discovery names no {name} that can be used.")
        return endpoint

    def _is_trusted(self, url: str) -> bool:
        return url.startswith("https://") or self.provider.issuer.startswith("http://")

    def _discovered(self) -> dict[str, Any]:
        """What the provider says of itself, at most an hour old. While it is away, what it said last."""
        return self._metadata.get()

    def _ask_discovery(self) -> dict[str, Any]:
        try:
            found = _get(f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        except (requests.RequestException, ValueError) as fault:
            raise _unreachable("discovery", fault) from None
        if found.get("issuer") != self.provider.issuer:
            raise SsoFault("sso_unreachable", f"Discovery is of {found.get('issuer')!r}, not of OIDC_ISSUER.")
        return found

    def _ask_keys(self) -> KeySet:
        try:
            listed = _get(self._endpoint("jwks_uri")).get("keys")
        except (requests.RequestException, ValueError) as fault:
            raise _unreachable("the keys", fault) from None
        return KeySet([key for one in listed or [] if (key := _key(one)) is not None])

    def _checked(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token that the provider signed, for us, now, and for this sign-in."""
        offered = self._discovered().get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = [name for name in ALGORITHMS if name in offered]
        try:
            try:
                read = jwt.decode(token, self._keys.get(), algorithms=algorithms)
            except (InvalidKeyIdError, BadSignatureError):  # rotated, perhaps under the same name
                read = jwt.decode(token, self._keys.get(anew=True), algorithms=algorithms)
            claims = read.claims
            jwt.JWTClaimsRegistry(
                now=_database_time(),
                leeway=CLOCK_SKEW_SECONDS,
                iss={"essential": True, "value": self.provider.issuer},
                aud={"essential": True, "value": self.provider.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError) as fault:
            raise SsoFault("sso_bad_token", f"The ID token is refused: {fault}.") from None
        # Of several audiences, the one it was issued to must be this client.
        party = claims.get("azp")
        if party not in (None, self.provider.client_id) or (party is None and _several(claims["aud"])):
            raise SsoFault("sso_bad_token", "The ID token was issued to another client (azp).")
        return dict(claims)

    def _userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """The claims that are not in the ID token. They count only when they are of the same person."""
        if not isinstance(self._discovered().get("userinfo_endpoint"), str):
            return {}
        endpoint = self._endpoint("userinfo_endpoint")
        try:
            told = _get(endpoint, {"Authorization": f"Bearer {access_token}"})
        except (requests.RequestException, ValueError) as fault:
            raise _unreachable("userinfo", fault) from None
        if told.get("sub") != subject:
            raise SsoFault("sso_bad_token", "Userinfo is of somebody else than the ID token.")
        return told


def _get(url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object at an address that the operators or the provider named; it may not lead elsewhere."""
    answer = requests.get(
        url, headers={"Accept": "application/json", **(headers or {})}, timeout=TIMEOUT_SECONDS, allow_redirects=False
    )
    if answer.status_code != 200:
        raise ValueError(f"status {answer.status_code}")
    if len(answer.content) > LONGEST_ANSWER:
        raise ValueError("an answer that is too long")
    told = answer.json()
    if not isinstance(told, dict):
        raise ValueError("no JSON object")
    return told


def _key(one: Any) -> Any:
    """Return a key for signatures, or None for what is none: providers list others beside them."""
    if not isinstance(one, dict) or one.get("kty") not in KEY_TYPES or one.get("use", "sig") != "sig":
        return None
    try:
        return JWKRegistry.import_key(one)
    except (JoseError, ValueError) as fault:
        logger.warning("A key of the provider cannot be used: %s", fault)
        return None


def _several(audience: Any) -> bool:
    return isinstance(audience, list) and len(audience) > 1


def _unreachable(what: str, fault: Exception) -> SsoFault:
    return SsoFault("sso_unreachable", f"Could not ask {what}: {type(fault).__name__}: {fault}")


def _database_time() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM statement_timestamp())::bigint")
        (seconds,) = cursor.fetchone() or (0,)
    return int(seconds)
