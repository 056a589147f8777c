"""Settings from the environment: each helper reads one variable and refuses a bad value with one sentence.

An unset variable and an empty one are the same thing (compose files and unit files pass empty ones on). A message never
repeats the value of a secret.
"""

from __future__ import annotations

import ipaddress
import math
import os
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from queueing.labels import RULE, is_label

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


class ConfigError(ImproperlyConfigured):
    """A setting is missing or has a value that cannot be used: the sentence names it and says what would do."""


@overload
def env_str(name: str, default: str, *, secret: bool = False) -> str: ...
@overload
def env_str(name: str, default: None = None, *, secret: bool = False) -> str | None: ...
def env_str(name: str, default: str | None = None, *, secret: bool = False) -> str | None:
    """Return the value of NAME without surrounding white space, or `default` when it is unset or empty.

    With `secret=True` the value may instead stand in the file that NAME_FILE names (its last line end is dropped).
    Raises ConfigError when both are set, or when the file cannot be read, is not UTF-8 or is empty.
    """
    value = os.environ.get(name, "").strip()
    if secret:
        file_name = os.environ.get(f"{name}_FILE", "").strip()
        if value and file_name:
            raise ConfigError(f"Both {name} and {name}_FILE are set: unset one of them.")
        if file_name:
            return _read_secret_file(name, Path(file_name))
    return value or default


def _read_secret_file(name: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{name}_FILE names {path}, which cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}_FILE names {path}, which is not UTF-8 text.") from None
    value = text.rstrip("\r\n")
    if not value.strip():
        raise ConfigError(f"{name}_FILE names {path}, which is empty.")
    return value


def env_int(name: str, default: int, *, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return NAME as a whole number. Raises ConfigError when it is none, or outside [minimum, maximum]."""
    text = env_str(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"{name} must be a whole number, not {text!r}.") from None
    _check_range(name, value, minimum, maximum)
    return value


def env_float(name: str, default: float, *, minimum: float | None = None, maximum: float | None = None) -> float:
    """Return NAME as a finite number. Raises ConfigError when it is none, or outside [minimum, maximum]."""
    text = env_str(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {text!r}.") from None
    if not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {text!r}.")
    _check_range(name, value, minimum, maximum)
    return value


def _check_range(name: str, value: float, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and value < minimum:
        raise ConfigError(f"{name} must be at least {minimum}, not {value}.")
    if maximum is not None and value > maximum:
        raise ConfigError(f"{name} must be at most {maximum}, not {value}.")


def env_bool(name: str, default: bool) -> bool:
    """Return NAME as yes or no (1/true/yes/on, 0/false/no/off, any case). Raises ConfigError on any other word."""
    text = env_str(name)
    if text is None:
        return default
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ConfigError(f"{name} must be true or false, not {text!r}.")


def env_list(name: str, default: Iterable[str] = (), *, secret: bool = False) -> list[str]:
    """Return the comma-separated items of NAME in their order, stripped, without empty ones."""
    text = env_str(name, secret=secret)
    if text is None:
        return list(default)
    return [item.strip() for item in text.split(",") if item.strip()]


def env_labels(name: str, default: Iterable[str] = ()) -> list[str]:
    """Return NAME, a comma-separated list of pools or regions; `*` is all of them.

    Raises ConfigError for a name that no plan can ask for: its workers would wait in vain.
    """
    labels = env_list(name, default)
    for label in labels:
        if label != "*" and not is_label(label):
            raise ConfigError(f"{name} must list names such as eu-2, or *; {label!r} is none: write {RULE}.")
    return labels


def env_networks(name: str, default: Iterable[str] = ()) -> list[Network]:
    """Return NAME, a comma-separated list of networks in CIDR notation; a bare address is a network of one.

    Raises ConfigError when an item is no network or has bits set to the right of its mask.
    """
    networks: list[Network] = []
    for item in env_list(name, default):
        try:
            networks.append(ipaddress.ip_network(item))
        except ValueError as error:
            raise ConfigError(f"{name} must list networks such as 10.0.0.0/8: {error}.") from None
    return networks


def refuse_debug_for_others(*, bind: str, database_url: str) -> None:
    """Raise ConfigError when debug pages could be seen from elsewhere, or tell of a database that others use."""
    host = urlsplit(database_url).hostname or "" if database_url else ""
    for setting, value in (("BIND", bind), ("DATABASE_URL", host)):
        if value and not value.startswith("/") and not _is_this_machine(value):
            raise ConfigError(
                f"DEBUG shows code and data to whoever meets a fault: it is refused with {setting} naming another"
                " address than this machine's loopback. Unset DEBUG."
            )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def env_certificates(name: str) -> str | None:
    """Return the file of certificates that NAME names; None when it is unset. Raises ConfigError for a file without."""
    value = env_str(name)
    if value is None:
        return None
    try:
        ssl.create_default_context(cafile=value)
    except OSError as error:  # an SSLError is one too
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "there is no certificate in it"
        raise ConfigError(f"{name} names {value}, which cannot be used: {reason}.") from None
    return value


def env_choice(name: str, default: str, choices: Sequence[str]) -> str:
    """Return NAME, which must be one of `choices` (exact spelling). Raises ConfigError otherwise."""
    value = env_str(name, default)
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value
