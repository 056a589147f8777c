"""An OpenID Connect provider as a process: oidc-provider-mock, with PKCE insisted on, that can be told to cheat.

python -m tests.safety.sso.rough_provider PORT
POST /rough {"claims": {...}, "drop": [...], "sign": "none" | "public key" | "another key", "status": 500}
POST /rotate    a new key; {"kid": "same"}: under the name of the old one
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Callable
from typing import Any

import flask
import oidc_provider_mock
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server


def make_app() -> flask.Flask:
    app: flask.Flask = oidc_provider_mock.app()
    app.debug = False
    challenges: set[str] = set()
    rough: dict[str, Any] = {}

    @app.before_request
    def insist_on_pkce() -> flask.Response | None:
        path = flask.request.path
        if path == "/oauth2/authorize":
            assert flask.request.args["code_challenge_method"] == "S256"
            challenges.add(flask.request.args["code_challenge"])
        if path == "/oauth2/token":
            digest = hashlib.sha256(flask.request.form.get("code_verifier", "").encode()).digest()
            if _base64(digest).decode() not in challenges:
                return flask.make_response({"error": "invalid_grant"}, 400)
            if "status" in rough:
                return flask.make_response("broken", rough["status"])
        return None

    @app.after_request
    def cheat(response: flask.Response) -> flask.Response:
        if flask.request.path == "/oauth2/token" and response.status_code == 200:
            given = json.loads(response.get_data())
            given["id_token"] = _changed(given["id_token"], rough, _key())
            response.set_data(json.dumps(given))
        if flask.request.path == "/.well-known/openid-configuration":  # it says that it would sign with anything
            said = json.loads(response.get_data())
            said["id_token_signing_alg_values_supported"] += ["none", "HS256"]
            response.set_data(json.dumps(said))
        return response

    @app.post("/rough")
    def be_rough() -> dict[str, Any]:
        rough.clear()
        rough.update(flask.request.get_json())
        return rough

    @app.post("/rotate")
    def rotate() -> dict[str, str]:
        storage = flask.g.oidc_provider_mock_storage
        same = flask.request.get_json().get("kid") == "same"
        named = {"kid": storage.jwk.as_dict()["kid"]} if same else None
        storage.jwk = type(storage.jwk).generate_key(options=named, is_private=True)
        return {}

    return app


def _key() -> RSAKey:
    return RSAKey.import_key(flask.g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))


def _changed(token: str, rough: dict[str, Any], key: RSAKey) -> str:
    read = jwt.decode(token, key)
    claims = {**read.claims, **rough.get("claims", {})}
    for name in rough.get("drop", []):
        claims.pop(name, None)
    header = {key: value for key, value in read.header.items() if key in ("alg", "typ", "kid")}
    match rough.get("sign"):
        case "none":
            return _joined({"alg": "none"}, claims, lambda _signed: b"")
        case "public key":  # as a shared secret, which everybody has
            secret = key.as_pem(private=False)
            return _joined({**header, "alg": "HS256"}, claims, lambda signed: hmac.digest(secret, signed, "sha256"))
        case "another key":
            return jwt.encode(header, claims, RSAKey.generate_key())
    return jwt.encode(header, claims, key)


def _joined(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    return b".".join((signed, _base64(sign(signed)))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), make_app(), threaded=True).serve_forever()
