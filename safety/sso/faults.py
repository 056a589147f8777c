"""Why a sign-in at the provider came to nothing, for the page that says so and for the audit."""

from __future__ import annotations

# code: (HTTP status, what happened, what to do). docs/reference/errors.md lists them.
FAULTS: dict[str, tuple[int, str, str]] = {
    "sso_denied": (403, "The provider did not let you in", "Try again, or ask whoever runs the provider."),
    "sso_unreachable": (
        502,
        "The provider cannot be asked",
        "Try again in a minute; a local account works meanwhile. The log says what is wrong.",
    ),
    "sso_stale": (
        400,
        "This sign-in was not begun in this browser, or it was used already",
        "Begin again; it takes one click.",
    ),
    "sso_bad_token": (
        403,
        "What the provider said of you cannot be trusted",
        "Begin again; if it stays, give the operators the time of it: the log says what was wrong.",
    ),
    "sso_no_tenant": (403, "Nobody says where you belong", "Ask an administrator to set the tenant up for you."),
    "sso_other_tenant": (
        403,
        "Your account belongs to another tenant",
        "An account never moves: ask an administrator for another one.",
    ),
    "sso_closed": (403, "Your account here is closed", "Ask an administrator to open it again."),
}


class SsoFault(Exception):
    """The sign-in is refused. `code` is one of FAULTS; `detail` is for the log and the audit, never for the page."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status, self.title, self.way_out = FAULTS[code]
