"""A request to an asset that is an API: its base address, and its credential as a header."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from dataclasses import replace

from executions.connectors.base import Credential, ErrorCode, HttpRequest, Target

API = "api"
# To another host goes only what cannot be a secret; a token may be in a header of any other name.
HARMLESS_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent", "cache-control"})


class NotAddressed(Exception):
    """A request that is relative to its target cannot be sent there. The text is the sentence for the operator."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def is_path(url: object) -> bool:
    """Whether an address is only a path, so that it is relative to an asset."""
    return isinstance(url, str) and url.startswith("/")


def addressed(request: HttpRequest, target: Target) -> HttpRequest:
    """The request with the address of its target before its path, and signed in there if it is to be.

    https, unless the asset's service_type says http. A credential goes nowhere but to its own asset, and over http to
    this machine alone. Raises NotAddressed.
    """
    if target.connection != API:
        whose = f"{target.name} is reached by {target.connection}" if target.name else "the step names no asset"
        raise NotAddressed(
            ErrorCode.NOT_SUPPORTED,
            f"An address that begins with / is relative to an asset with connection api; {whose}.",
        )
    host = target.hostname or target.ip_address or target.name
    scheme = "http" if target.service_type == "http" else "https"
    port = f":{target.port}" if target.port else ""
    base = f"{scheme}://{f'[{host}]' if ':' in host else host}{port}"
    located = replace(request, url=base + request.url)
    if not request.with_credential or target.credential is None:
        return located
    if scheme == "http" and not _is_this_machine(host):
        raise NotAddressed(
            ErrorCode.CREDENTIAL_UNUSABLE,
            f"The credential of {target.name} would go over the network unprotected, so it was not sent. Use https: set"
            " the asset's service_type, or send the request without it with auth {type: none}.",
        )
    name, value = _header(target.credential, target, request.api_key_header)
    others = {key: text for key, text in located.headers.items() if key.lower() != name.lower()}
    private = request.private_headers | {name.lower()}
    return replace(located, headers={**others, name: value}, private_headers=private)


def _header(credential: Credential, target: Target, api_key_header: str) -> tuple[str, str]:
    if credential.bearer_token:
        return "Authorization", f"Bearer {credential.bearer_token}"
    if credential.api_key:
        return api_key_header, credential.api_key
    username = credential.username or target.username
    if username and credential.password:
        return "Authorization", f"Basic {b64encode(f'{username}:{credential.password}'.encode()).decode()}"
    raise NotAddressed(
        ErrorCode.CREDENTIAL_UNUSABLE,
        f"The credential of {target.name} has neither a bearer_token nor an api_key nor a username with a password, so"
        " an API cannot be asked with it. Store it as an object with one of these.",
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
