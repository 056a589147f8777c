"""The settings of the two services that an installation may already have: an inventory of assets, and automation."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from opsconductor.environment import ConfigError, env_bool, env_str


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Where a service is and how it is asked. `ca_file` empty: the certificates that come with the HTTP client."""

    name: str
    url: str
    ca_file: str = ""
    token: str = field(default="", repr=False)


def service_settings() -> tuple[ServiceSettings | None, ServiceSettings | None]:
    """Return the asset service and the automation service; None for one that is not configured. Raises ConfigError."""
    token = env_str("SERVICE_TOKEN", "", secret=True)
    ca_file = env_str("SERVICE_CA_FILE", "")
    in_clear = env_bool("SERVICE_PLAIN_HTTP", False)
    if ca_file and not Path(ca_file).is_file():
        raise ConfigError(f"SERVICE_CA_FILE names {ca_file}, which is no file.")
    if any(not " " < character < "\x7f" for character in token):
        raise ConfigError("SERVICE_TOKEN holds a character that no header can carry: write it without spaces.")
    urls = {
        "asset": ("ASSET_SERVICE_URL", env_str("ASSET_SERVICE_URL", "")),
        "automation": ("AUTOMATION_SERVICE_URL", env_str("AUTOMATION_SERVICE_URL", "")),
    }
    asset, automation = (
        ServiceSettings(name, _checked(setting, url, in_clear), ca_file, token) if url else None
        for name, (setting, url) in urls.items()
    )
    return asset, automation


def _checked(setting: str, url: str, in_clear: bool) -> str:
    """Return the address without a slash at its end. Credentials travel there: over TLS, or within this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{setting} is no address: write it as https://assets.example.org.") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{setting} holds a user name or password: put the token into SERVICE_TOKEN instead.")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or " " in url:
        raise ConfigError(f"{setting} must be an address such as https://assets.example.org, not {url!r}.")
    if parts.scheme == "http" and not in_clear and not _is_this_machine(host):
        raise ConfigError(
            f"{setting} must begin with https://: over http credentials would travel in clear. SERVICE_PLAIN_HTTP=true"
            " allows that, for a network that nobody else can listen in."
        )
    return url.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
