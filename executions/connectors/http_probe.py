"""Whether an endpoint can be connected to. Nothing is sent to it."""

from __future__ import annotations

import ssl

import httpcore

from executions.connectors.addresses import AddressPolicy
from executions.connectors.base import ErrorCode, Outcome, Target
from executions.connectors.http_transport import AddressRefused, CheckedBackend

USUAL_PORT = 443
TLS_PORTS = frozenset({443, 6443, 8443})  # on any other port nobody has said which it is


async def probe_endpoint(
    policy: AddressPolicy, context: ssl.SSLContext, target: Target, timeout_seconds: float
) -> Outcome:
    """Connect, and on ports that are for it agree on TLS with a certificate that is checked."""
    host, port = target.hostname or target.address, target.port or USUAL_PORT
    where = f"{host}:{port}"
    try:
        stream = await CheckedBackend(policy).connect_tcp(host, port, timeout_seconds)
    except AddressRefused as refused:
        sentence = f"{where} is {refused.kind}, which HTTP_ALLOWED_NETWORKS does not open."
        return Outcome(None, ErrorCode.ADDRESS_NOT_ALLOWED, sentence)
    except httpcore.ConnectTimeout:
        return Outcome(None, ErrorCode.UNREACHABLE, f"{where} could not be connected to within {timeout_seconds:g} s.")
    except (httpcore.ConnectError, OSError) as error:
        if _was_refused(error):
            return Outcome(None, ErrorCode.CONNECTION_REFUSED, f"{where} refuses connections.")
        return Outcome(None, ErrorCode.UNREACHABLE, f"{where} cannot be reached: {error}.")
    try:
        if port not in TLS_PORTS:
            return Outcome(0, data={"tls": False})
        stream = await stream.start_tls(context, server_hostname=host, timeout=timeout_seconds)
        return Outcome(0, data={"tls": True})
    except (httpcore.ConnectError, httpcore.ConnectTimeout, ssl.SSLError, OSError) as error:
        return Outcome(None, ErrorCode.TLS_FAILED, f"{where} could not be talked to securely: {error}.")
    finally:
        await stream.aclose()


def _was_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        if isinstance(error, BaseExceptionGroup):
            return any(_was_refused(inner) for inner in error.exceptions)
        error = error.__cause__ or error.__context__
    return False
