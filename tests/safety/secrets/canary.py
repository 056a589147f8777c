"""The canary: a value that a plan prints in every way, and the places in which it is looked for afterwards."""

from __future__ import annotations

import base64
import html
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

# What each encoding changes, and nothing that a shell or a header could not carry.
SPECIALS = {"%": "%25", " ": "%20", "+": "%2B", "/": "%2F", "=": "%3D", "&": "%26", '"': "%22", "'": "%27"}
TO_URL = "; ".join(f"s,{sign},{code},g" for sign, code in SPECIALS.items())


def canary_of(store: str) -> str:
    return f'c4n4ry-{store} a+b/c=d&e%f "g\'h" {store[::-1]}-y4rn4c'


def forms_of(value: str) -> dict[str, bytes]:
    """A value in the encodings in which it may not be found. Of base64 what this value alone decides, at each place."""
    raw = value.encode()
    as_json = json.dumps(value)[1:-1]
    forms = {
        "raw": raw,
        "the first half": raw[: len(raw) // 2],
        "the second half": raw[len(raw) // 2 :],
        "JSON": as_json.encode(),
        "JSON in JSON": json.dumps(as_json)[1:-1].encode(),
        "HTML": html.escape(value).encode(),
        "URL": quote(value, safe="").encode(),
        "URL, as a form": quote_plus(value).encode(),
        "hexadecimal": raw.hex().encode(),
        "repr": repr(value)[1:-1].encode(),
    }
    for place in range(3):
        whole = base64.b64encode(b"\0" * place + raw)
        forms[f"base64 at {place}"] = whole[(0, 2, 3)[place] : (place + len(raw)) * 8 // 6]
    return forms


def plan_of(store: str, asset: str, echo_url: str, waiting: Path, go_on: Path) -> dict[str, Any]:
    """Steps that print the secret in every way there is; the one that `waiting` announces waits for `go_on`."""
    secret = {"type": "secret", "path": f"canary/{store}"}
    number = iter(range(1, 100))

    def shell(command: str, **fields: Any) -> dict[str, Any]:
        inputs = {"command": command, "environment": {"S": secret}}
        return {"id": f"s{next(number)}", "tool": "shell", "inputs": inputs, "targets": [asset], **fields}

    def http(**inputs: Any) -> dict[str, Any]:
        given = {"url": f"{echo_url}/{store}", "method": "POST", **inputs}
        return {"id": f"s{next(number)}", "tool": "http", "inputs": given, "on_failure": "continue"}

    return {
        "title": f"Canary of {store}",
        "labels": {"pool": store},
        "steps": [
            shell("printf '%s\\n' \"$S\""),
            shell("printf '%s' \"$S\" | base64 -w0; echo; printf 'user:%s' \"$S\" | base64 -w20"),
            shell(f"printf '%s' \"$S\" | sed \"{TO_URL.replace(chr(34), chr(92) + chr(34))}\"; echo"),
            shell("printf '{\"password\": \"%s\"}\\n' \"$(printf '%s' \"$S\" | sed 's,\",\\\\\",g')\""),
            shell("printf '%s' \"$S\" | head -c 9; sleep 0.5; printf '%s' \"$S\" | tail -c +10; echo"),
            shell('echo "error: cannot sign in with $S" >&2; exit 3', on_failure="continue"),
            shell("echo {{ steps.s1.stdout }}", on_failure="continue"),  # would end on a command line
            {
                "id": "twice", "tool": "command", "targets": [asset],
                "inputs": {"argv": ["cat"], "stdin": "again: {{ steps.s1.stdout }}"},
            },
            {
                "id": "nowhere", "tool": "command", "targets": [asset], "on_failure": "continue",
                "inputs": {"argv": ["there-is-no-such-program"], "stdin": secret},
            },
            http(headers={"X-Secret": secret}, body={"deep": [secret]}, query={"token": secret}),
            http(auth={"type": "bearer", "token": secret}, expect_status=[418]),
            http(auth={"type": "basic", "username": "u", "password": secret}),
            http(url=secret),  # no URL: what is said of it must not repeat it
            shell(f"touch {waiting}; until test -e {go_on}; do sleep 0.05; done"),
            shell("printf '%s' \"$S\" | sha256sum"),
        ],
    }  # fmt: skip


def found_in(traces: dict[str, bytes], value: str) -> list[str]:
    """Where a value, or half of it, is found, in which form."""
    forms = forms_of(value)
    return [f"{form} in {name}" for name, trace in traces.items() for form, needle in forms.items() if needle in trace]


def command_lines_and_environments() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (pid, command line, environment) of every process of this machine that may be looked at."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield process.name, (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue


def ps() -> bytes:
    """What everybody on the machine sees."""
    try:
        return subprocess.run(["ps", "-ef", "ww"], capture_output=True, timeout=20, check=False).stdout
    except FileNotFoundError:  # a slim machine; /proc is what ps reads
        return b"".join(line for _, line, _ in command_lines_and_environments())
