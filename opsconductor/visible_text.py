"""Characters that nobody sees but that change how a text reads are shown, on every page.

A title with U+202E in it reads backwards from there, so an approver would see another plan than the one that runs;
zero-width characters make two different names look alike. On pages such a character is replaced by its number, wherever
it came from: a title, a reason, a host's name, a line of output. Stored texts and the API keep what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import re2
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# UTF-8 of: C1 controls and the soft hyphen; U+061C; U+200B, U+200E, U+200F; U+2028 to U+202E; U+2060 to U+206F;
# U+FEFF; U+E0000 to U+E007F. The zero-width joiners U+200C and U+200D are left: scripts and emoji need
# them.
_HIDDEN = (
    rb"\xc2[\x80-\x9f\xad]|\xd8\x9c|\xe2\x80[\x8b\x8e\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"
    rb"|\xf3\xa0[\x80-\x81][\x80-\xbf]"
)
_EACH = re.compile(_HIDDEN)


def _finder() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(_HIDDEN, options)


_ANY = _finder()  # a page without any, so nearly every one, costs one quick look


def visible(content: bytes) -> bytes:
    """Return UTF-8 with a number, as `[U+202E]`, for each character that cannot be seen."""
    if _ANY.search(content) is None:
        return content
    return _EACH.sub(lambda found: f"[U+{ord(found[0].decode()):04X}]".encode(), content)


class VisibleText:
    """Middleware: every HTML answer goes through `visible`. Inside CommonMiddleware, which counts the length."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if not response.streaming and response.headers.get("Content-Type", "").startswith("text/html"):
            response.content = visible(response.content)  # type: ignore[attr-defined]
        return response
