"""From what went wrong between us and a machine to a code and a sentence with what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

import requests
import spnego.exceptions
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from executions.connectors.base import ErrorCode, Outcome, Target
from executions.connectors.winrm.shell import SHELL_GONE, Login

ACCESS_DENIED = frozenset({5, 2147942405})
QUOTA = range(2150859173, 2150859182)  # shells, processes or operations of the user used up
PLAIN_PORT = 5985

# What `RemoteShell` raises for trouble outside; everything else is a bug.
TROUBLE = (
    requests.RequestException,
    WinRMError,
    spnego.exceptions.SpnegoError,
    ParseError,  # an answer that is no XML
    OSError,
    ValueError,  # an answer with parts missing, or an offer of ways to sign in that is not ours
)


def outcome_of(error: Exception, login: Login, target: Target, *, may_have_begun: bool) -> Outcome:
    """Return what is known after `error`. may_have_begun: the machine had been told everything."""
    where = f"{target.name or login.host} ({login.host}:{login.port})"
    if may_have_begun:
        return _in_the_middle(error, where)
    code, sentence = _before(error, login, where)
    return Outcome(None, code, sentence)


def _before(error: Exception, login: Login, where: str) -> tuple[ErrorCode, str]:
    if isinstance(error, AuthenticationError | spnego.exceptions.SpnegoError):
        return ErrorCode.AUTHENTICATION_FAILED, _not_signed_in(error, login, where)
    if isinstance(error, WSManFaultError):
        return _fault(error, where)
    if isinstance(error, requests.exceptions.SSLError | ssl.SSLError):
        return ErrorCode.TLS_FAILED, _tls(error, login, where)
    if isinstance(error, requests.RequestException):
        return _unreachable(error, where)
    status = f"HTTP status {error.code}" if isinstance(error, WinRMTransportError) else "no answer of WinRM's"
    return ErrorCode.UNREACHABLE, (
        f"What answers at {where} is no WinRM service ({status}); nothing was run. See which port the HTTPS listener"
        " has (winrm enumerate winrm/config/listener) and write it as the asset's port."
    )


def _unreachable(error: requests.RequestException, where: str) -> tuple[ErrorCode, str]:
    causes = list(_causes(error))
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return ErrorCode.CONNECTION_REFUSED, (
            f"{where} refuses connections. Set up an HTTPS listener there (winrm quickconfig -transport:https), or"
            " write the asset's port if it has another."
        )
    if any(isinstance(cause, NameResolutionError | socket.gaierror) for cause in causes):
        return ErrorCode.UNREACHABLE, f"The name of {where} is not known here. Correct the asset's hostname."
    if any(isinstance(cause, ConnectTimeoutError | requests.Timeout) for cause in causes):
        return ErrorCode.UNREACHABLE, f"{where} does not answer. See whether it is up and a firewall lets us through."
    if isinstance(error, requests.TooManyRedirects):
        return ErrorCode.UNREACHABLE, f"{where} sends us elsewhere, which WinRM never does; nobody was followed."
    if any(isinstance(cause, NewConnectionError) for cause in causes):
        return ErrorCode.UNREACHABLE, f"There is no way from here to {where}. See the asset's address and the routes."
    return ErrorCode.UNREACHABLE, f"{where} broke off before it had been told what to do; nothing was run."


def _tls(error: Exception, login: Login, where: str) -> str:
    told = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if told is not None:
        return (
            f"The certificate of {where} cannot be trusted: {told.verify_message.rstrip('.')}. Name the file of the"
            " authority that signed it in WINRM_CA_BUNDLE, and reach the machine by the name in its certificate."
        )
    plain = " That port is usually the one without TLS, which is never used." if login.port == PLAIN_PORT else ""
    return f"No protected connection to {where} came about; nothing was sent.{plain} See its HTTPS listener (5986)."


def _not_signed_in(error: Exception, login: Login, where: str) -> str:
    if "did not response with" in str(error):  # pypsrp's words for: it offers other ways
        return (
            f"{where} offers no {login.authentication} sign-in. Switch it on there (winrm get"
            " winrm/config/service/auth) or choose another by WINRM_AUTH."
        )
    return (
        f"{where} refuses the user name or password ({login.authentication}). Correct the asset's credential; a local"
        " user needs no domain, one of a domain does."
    )


def _fault(fault: WSManFaultError, where: str) -> tuple[ErrorCode, str]:
    if fault.code in ACCESS_DENIED:
        return ErrorCode.AUTHENTICATION_FAILED, (
            f"{where} knows the user but lets it run nothing. Add it to the group Remote Management Users or"
            " Administrators there."
        )
    if isinstance(fault.code, int) and fault.code in QUOTA:
        return ErrorCode.START_FAILED, (
            f"{where} has no room for one more shell of this user ({fault.code}). Run fewer at a time there, or raise"
            " MaxShellsPerUser."
        )
    return ErrorCode.START_FAILED, f"{where} would not begin: {_said(fault)}. Nothing was run."


def _in_the_middle(error: Exception, where: str) -> Outcome:
    if isinstance(error, WSManFaultError) and error.code in SHELL_GONE:
        what = f"{where} ended the shell while the command ran: it was restarted, or somebody removed the shell"
        return Outcome(None, ErrorCode.CONNECTION_LOST, f"{what}. See there what became of it.")
    if isinstance(error, WSManFaultError):
        return Outcome(None, ErrorCode.INVALID_ANSWER, f"{where} reported a fault in the middle: {_said(error)}.")
    if isinstance(error, requests.RequestException | OSError):
        what = f"The connection to {where} broke in the middle, so nobody saw how it ended"
        return Outcome(None, ErrorCode.CONNECTION_LOST, f"{what}. See there what became of it.")
    return Outcome(None, ErrorCode.INVALID_ANSWER, f"{where} answered in the middle with what is not WinRM's.")


def _said(fault: WSManFaultError) -> str:
    reason = " ".join((fault.provider_fault or fault.reason or "no reason").split())[:300]
    return f"{reason.rstrip('.')} ({fault.code})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything it came from: by cause, by context, and as the first argument or reason."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args[:1]]
