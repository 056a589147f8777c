"""Placeholders that a planner left in: `<service_name>`, `<HOST>`, `<your-password>`.

Told from what is ordinary on a command line and in files: comparisons, redirections, here-documents, generic types,
Perl's file handles, tags of HTML and XML. A value that is nothing but `<word>` is always a placeholder.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"\s*<[A-Za-z][\w .:-]{0,60}>\s*")
# Directly after a word it is a generic type (`Vec<my_type>`) or a redirection (`2<in_file`), after `<` a here-document;
# directly before a word it is two redirections (`<in_file>out_file`).
_INSIDE = re.compile(r"(?<![\w<)\]$])<([A-Za-z][A-Za-z0-9]*(?:[ _-][A-Za-z0-9]+)*)>(?![\w>(&])")
_WORDS = frozenset(
    {
        "hostname", "host", "ipaddress", "ip", "username", "user", "password", "passwd", "servicename",
        "service", "filename", "filepath", "dirname", "databasename", "dbname", "placeholder", "changeme",
        "todo", "token", "apikey", "namespace", "podname", "containername",
    }
)  # fmt: skip
_LAST_WORDS = frozenset(
    {
        "name", "value", "id", "path", "host", "hostname", "ip", "address", "port", "user", "username",
        "password", "pass", "key", "token", "url", "uri", "file", "filename", "dir", "directory", "service",
        "version", "domain", "database", "db", "server", "env", "environment", "region", "container", "pod",
        "namespace",
    }
)  # fmt: skip
_FIRST_WORDS = frozenset(
    {
        "your", "my", "insert", "replace", "enter", "some", "actual", "desired", "target",
    }
)  # fmt: skip
_NOT_PLACEHOLDERS = frozenset(
    {
        "STDIN", "STDOUT", "STDERR", "ARGV", "DATA", "HTML", "BODY", "HEAD", "TABLE", "SPAN", "CODE", "STYLE",
        "SCRIPT", "EOF",
    }
)  # fmt: skip


def placeholder_in(text: str) -> str | None:
    """The first placeholder in `text`, with its brackets, or None."""
    if "<" not in text or ">" not in text:
        return None
    if _WHOLE.fullmatch(text):
        return text.strip()
    for found in _INSIDE.finditer(text):
        word = found.group(1)
        if _is_placeholder(word) and not _is_element(text, found.start(), word):
            return found.group()
    return None


def _is_placeholder(word: str) -> bool:
    if word in _NOT_PLACEHOLDERS:
        return False
    parts = re.split(r"[ _-]", word.lower())
    if len(parts) == 1:
        return word.lower() in _WORDS or (word.isupper() and len(word) >= 4)
    if "_" in word or word.isupper():
        return True
    return parts[-1] in _LAST_WORDS or parts[0] in _FIRST_WORDS


def _is_element(text: str, start: int, word: str) -> bool:
    """Whether an end tag says that it is an element of XML or HTML, or an #include stands before it."""
    return f"</{word}>" in text or text[max(0, start - 9) : start].endswith(("#include ", "#include"))
