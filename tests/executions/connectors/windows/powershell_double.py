"""Stands in for powershell.exe where there is no Windows: reads the orders of the connector as the agent does.

A program is started with its command line taken apart by Windows' rules. A script is run by sh. A tool's program is not
run: what it is given is printed as JSON. Run by path, by the fake WinRM service, never imported by what is tested.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

MISSING, DENIED = 2, 5


def split_command_line(line: str) -> list[str]:
    """Split as CommandLineToArgvW does what follows the program's name."""
    arguments: list[str] = []
    at, size = 0, len(line)
    while True:
        while at < size and line[at] in " \t":
            at += 1
        if at >= size:
            return arguments
        word, quoted = [], False
        while at < size and (quoted or line[at] not in " \t"):
            slashes = 0
            while at < size and line[at] == "\\":
                slashes, at = slashes + 1, at + 1
            if at < size and line[at] == '"':
                word.append("\\" * (slashes // 2))
                if slashes % 2:
                    word.append('"')
                elif quoted and at + 1 < size and line[at + 1] == '"':
                    word.append('"')
                    at += 1
                else:
                    quoted = not quoted
                at += 1
            else:
                word.append("\\" * slashes)
                if at < size and (quoted or line[at] not in " \t"):
                    word.append(line[at])
                    at += 1
        arguments.append("".join(word))


def main() -> int:
    lines = sys.stdin.buffer.read().decode("ascii").splitlines()
    orders: dict[str, str] = {}
    environment: dict[str, str] = {}
    inputs: dict[str, str] = {}
    content, is_whole = b"", False
    for line in lines:
        word, *values = line.split(" ")
        decoded = [base64.b64decode(value, validate=True) for value in values]
        if word == "content":
            content += decoded[0]
        elif word in ("environment", "input"):
            (environment if word == "environment" else inputs)[decoded[0].decode()] = decoded[1].decode()
        elif word == "end":
            is_whole = decoded[0].decode() == orders["mark"]
        elif decoded:
            orders[word] = decoded[0].decode()
    if not is_whole:
        return 254
    os.environ.update(environment)
    if orders["directory"]:
        try:
            os.chdir(os.environ["DOUBLE_ROOT"] + orders["directory"].partition(":")[2].replace("\\", "/"))
        except OSError as error:
            return refuse(orders, "directory", str(error))
    say(orders, "ready")
    if orders["kind"] == "script":
        return subprocess.run(["/bin/sh", "-c", orders["script"]], input=content, check=False).returncode
    if orders["kind"] == "tool":
        told = {"inputs": inputs, "content": base64.b64encode(content).decode(), "program": orders["script"]}
        print(json.dumps(told))
        return 0
    try:
        return start(orders, content)
    except FileNotFoundError as error:
        return refuse(orders, f"start-{MISSING}", str(error))
    except PermissionError as error:
        return refuse(orders, f"start-{DENIED}", str(error))


def start(orders: dict[str, str], content: bytes) -> int:
    argv = [orders["file"], *split_command_line(orders["arguments"])]
    return subprocess.run(argv, input=content, check=False).returncode & 0xFFFFFFFF


def say(orders: dict[str, str], text: str) -> None:
    os.write(1, f"{orders['mark']} {text}\n".encode())


def refuse(orders: dict[str, str], why: str, text: str) -> int:
    say(orders, f"refused {why} {base64.b64encode(text.encode()).decode()}")
    return 253


if __name__ == "__main__":
    sys.exit(main())
