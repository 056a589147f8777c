"""Secrets in a plan: references, which are right, and values given in clear, which are refused.

A value counts as a secret when its key says so (`password`, `api_key`, ...) or its text does (a private key, a
password in a URL, `curl -u user:password`, ...). What is a template, an environment variable or a reference is not a
value. The patterns run on RE2: linear time on any input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import re2

from safety.secrets import check_key, check_path

_KEYS = frozenset(
    {
        "password", "passwd", "pwd", "passphrase", "secret", "token", "api_key", "apikey", "private_key",
        "privatekey", "secret_key", "access_key", "authorization", "proxy_authorization", "credential",
        "credentials", "auth_token", "access_token", "refresh_token", "bearer_token", "client_secret",
        "secret_access_key", "session_token", "x_api_key", "x_auth_token", "ssh_key", "ssh_private_key",
        "cookie", "set_cookie",
    }
)  # fmt: skip
_KEY_ENDINGS = ("_password", "_passwd", "_passphrase", "_secret", "_token", "_api_key", "_private_key", "_secret_key")
_PATH = re.compile(r"(?:~|/|[A-Za-z]:\\)[\w.\\/ -]+")
_MAY_BE_PATHS = ("pwd", "key", "token")
_INNOCENT = frozenset(
    {
        "yes", "no", "true", "false", "none", "null", "on", "off", "required", "optional", "prompt",
    }
)  # fmt: skip
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|digest|apikey)\s+")

# What every pattern below has in it; most texts have none of it and need one search instead of twenty.
_HINT = re2.compile(
    r"(?i)private key|A[KS]IA|sshpass|mysql|maria|curl|wget|://|bearer|passw|passphrase|pwd|token|secret|api.?key"
    r"|authorization|eyJ|gh[pousr]_|github_pat|glpat|xox[abeprs]|AIza|[rs]k_live"
)
# (what it is, pattern); group 1, where there is one, is the value itself, which may turn out to be none.
_SHAPES = (
    ("a private key", r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"),
    ("an AWS access key", r"\b((?:AKIA|ASIA)[0-9A-Z]{16})\b"),
    ("a password of sshpass", r"\bsshpass\s+(?:-[ev]\s+)*-p\s*(\S+)"),
    (
        "a password of mysql",
        r"\b(?:mysql|mysqldump|mysqladmin|mysqlimport|mariadb|mariadb-dump)\b[^|;&\n]{0,400}?\s-p([^\s]+)",
    ),
    (
        "a password of curl",
        r"\bcurl\b[^|;&\n]{0,400}?\s(?:-u|--user|--proxy-user|-U)[ =]?\s*[\"']?[^\s:\"'$]+:([^\s\"']+)",
    ),
    (
        "a password option",
        r"(?i)(?:^|[\s\"'])--?(?:password|passwd|passphrase|token|secret|api-?key|client-secret|secret-key"
        r"|access-token|auth-token)(?:=|\s+)(\S+)",
    ),
    (
        "a password in the environment",
        r"\b[A-Z0-9_]*(?:PASSWORD|PASSWD|PWD|PASSPHRASE|SECRET|TOKEN|API_KEY|APIKEY|ACCESS_KEY|SECRET_KEY"
        r"|PRIVATE_KEY)=(\S+)",
    ),
    # A pair of a configuration file, a form or a connection string. A call, as in `password=getpass()`, is none.
    ("a password", r"(?i)\b[a-z0-9_]*(?:password|passwd|passphrase)=[\"']?([^\s\"'&;|,()<>{}]+)(?:[\s\"'&;|,]|$)"),
    ("a password in an address", r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@\"'<>]*:([^\s/@\"'<>]+)@"),
    (
        "a credential in a header",
        r"(?i)\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest)\s+)?([^\s\"',]{6,})",
    ),
    ("a bearer token", r"(?i)\bbearer\s+([A-Za-z0-9._~+/-]{16,}=*)"),
    (
        "a credential in a header",
        r"(?i)\bx-(?:api|auth|access)-(?:key|token)[\"']?\s*[:=]\s*[\"']?([^\s\"',]{6,})",
    ),
    ("a JSON web token", r"\b(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,})"),
    (
        "an access token",
        r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}"
        r"|xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35}|[rs]k_live_[0-9A-Za-z]{16,})",
    ),
)
_PATTERNS = [(what, re2.compile(pattern)) for what, pattern in _SHAPES]

HOW_TO_FIX = 'Keep it in the secret store and write {"type": "secret", "path": "..."} in its place.'


@dataclass(frozen=True, slots=True, order=True)
class SecretReference:
    """A secret by its path in the tenant's store, and the entry in it, if it holds several."""

    path: str
    key: str | None = None


def is_reference(value: object) -> bool:
    """Whether a value is meant as a secret reference, well formed or not."""
    return isinstance(value, Mapping) and value.get("type") == "secret"


def read_reference(value: Mapping[str, object]) -> SecretReference:
    """Read `{"type": "secret", "path": "db/orders", "key"?: "password"}`. Raises ValueError with a sentence."""
    extra = sorted(set(value) - {"type", "path", "key"})
    if extra:
        raise ValueError("A secret reference has type, path and key, and nothing else.")
    path, key = value.get("path"), value.get("key")
    if not path:
        raise ValueError("A secret reference needs a path.")
    return SecretReference(check_path(path), None if key is None else check_key(key))


def secrets_in(value: object, key: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (path, what it is) for every secret given in clear within `value`; the path begins with `.` or `[`.

    References are left alone. `key` is the name under which `value` stands.
    """
    if isinstance(value, str):
        if key is not None and is_secret_key(key) and _is_literal(value, key):
            yield "", f"the value of {key}"
        elif what := secret_in_text(value):
            yield "", what
    elif isinstance(value, Mapping):
        if not is_reference(value):
            yield from _in_mapping(value, key)
    elif isinstance(value, (list, tuple)):
        yield from _in_list(value, key)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and key is not None and is_secret_key(key):
        yield "", f"the value of {key}"


def _in_mapping(value: Mapping[str, object], above: str | None) -> Iterator[tuple[str, str]]:
    # `{"key": "db.password", "value": "..."}`, as config_manager takes it, names the key in a value.
    named = value.get("key", value.get("name"))
    for key, item in value.items():
        of_item: str | None = key
        if key == "value":
            of_item = re.split(r"[.\[/:]", named)[-1].rstrip("]") if isinstance(named, str) else above
        for path, what in secrets_in(item, of_item):
            yield f".{key}{path}", what


def _in_list(value: list[object] | tuple[object, ...], key: str | None) -> Iterator[tuple[str, str]]:
    found = False
    for index, item in enumerate(value):
        for path, what in secrets_in(item, key):
            found = True
            yield f"[{index}]{path}", what
    if found or not value or not all(isinstance(item, str) for item in value):
        return
    # `["curl", "-u", "user:password"]`: a command line in pieces
    if joined := secret_in_text(" ".join(str(item) for item in value)):
        yield "", joined


def is_secret_key(key: str) -> bool:
    """Whether a key's name says that its value is a secret."""
    return len(key) <= 100 and _says_secret(key)


@lru_cache(maxsize=4096)  # the same few names stand in every plan
def _says_secret(key: str) -> bool:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(" ", "_")
    return name in _KEYS or name.endswith(_KEY_ENDINGS)


def _is_literal(value: str, key: str) -> bool:
    text = _SCHEME.sub("", value.strip(), count=1).strip("\"'")
    if not _is_value(text):
        return False
    return not (key.lower().endswith(_MAY_BE_PATHS) and _PATH.fullmatch(text))


def _is_value(text: str) -> bool:
    """Whether a text is a value, not a variable, template, placeholder, pattern or a word that means nothing secret."""
    if not text or text.lower() in _INNOCENT or "{{" in text:
        return False
    if text[0] in "$`<*" or (text[0] == "%" and text.endswith("%")):
        return False
    return any(sign.isalnum() for sign in text)


def secret_in_text(text: str) -> str | None:
    """What kind of secret a text has in it, or None."""
    if len(text) < 6 or _HINT.search(text) is None:
        return None
    for what, pattern in _PATTERNS:
        for found in pattern.finditer(text):
            if pattern.groups == 0 or _is_given(found.group(1)):
                return what
    return None


def _is_given(value: str) -> bool:
    """Whether what follows an option or `=` is really a value: not an option, quote alone, expression or pattern."""
    bare = value.strip("\"'")
    if not bare or value[0] in "-|;&>)" or bare[0] in ".[\\^(?+:=/,;@#!~":
        return False
    return _is_value(bare)
