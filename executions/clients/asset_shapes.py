"""What the asset service sends, as far as it is used here. Most of it is null in practice; more may be there.

A row without an id breaks the contract; anything else that cannot be meant counts as not said.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

LONGEST_ID = 120


def _text(value: object) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).replace("\0", "").strip()
    return ""


def _id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not 0 < len(text := _text(value)) <= LONGEST_ID:
        raise ValueError("an id is a number or a text")
    return text


def _address(value: object) -> str | None:
    try:
        return str(ipaddress.ip_address(_text(value)))
    except ValueError:
        return None


def _port(value: object) -> int | None:
    text = _text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 65535 else None


def _tags(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(dict.fromkeys(tag for item in value if 0 < len(tag := _text(item)) <= 100))


def _yes_or_no(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


Text = Annotated[str, BeforeValidator(_text)]


class ServiceAsset(BaseModel):
    """One asset of the service. A text that is null is empty."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, BeforeValidator(_id)]
    name: Text = ""
    hostname: Text = ""
    ip_address: Annotated[str | None, BeforeValidator(_address)] = None
    description: Text = ""
    tags: Annotated[tuple[str, ...] | None, BeforeValidator(_tags)] = None
    device_type: Text = ""
    os_type: Text = ""
    os_version: Text = ""
    status: Text = ""
    environment: Text = ""
    criticality: Text = ""
    owner: Text = ""
    support_contact: Text = ""
    service_type: Text = ""
    port: Annotated[int | None, BeforeValidator(_port)] = None
    is_secure: Annotated[bool | None, BeforeValidator(_yes_or_no)] = None
    credential_type: Text = ""
    secondary_service_type: Text = ""
    secondary_port: Annotated[int | None, BeforeValidator(_port)] = None
    username: Text = ""
    domain: Text = ""
    is_active: Annotated[bool | None, BeforeValidator(_yes_or_no)] = None

    @property
    def short_host_name(self) -> str:
        """The first part of the host name, empty when that is an address."""
        host_name = self.hostname.lower()
        return "" if _address(host_name) is not None else host_name.split(".", 1)[0]


class AssetPage(BaseModel):
    """One page of the list. `total` and `limit` as the service says them, where it does."""

    model_config = ConfigDict(extra="ignore")

    assets: list[ServiceAsset]
    total: int | None = None
    limit: int | None = None


CREDENTIAL_FIELDS = (
    "username", "domain", "password", "private_key", "api_key", "bearer_token", "certificate", "passphrase",
)  # fmt: skip
SECRET_FIELDS = frozenset(CREDENTIAL_FIELDS) - {"username", "domain"}


def credential_entries(data: dict[str, Any]) -> dict[str, str]:
    """Return what an answer of `/{id}/credentials` holds to sign in with; nothing of the asset itself."""
    return {name: value for name in CREDENTIAL_FIELDS if isinstance(value := data.get(name), str) and value}
