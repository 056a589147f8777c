"""What Vault answers when it does not give a secret: which of it passes by itself, and what to do about the rest."""

from __future__ import annotations

from typing import Any

import requests
from hvac import exceptions

from safety.secrets.unavailable import SecretUnavailable, not_there

_PASSES = "Wait until Vault answers again; the step can then be retried."


def of_answer(path: str, trouble: exceptions.VaultError) -> SecretUnavailable:
    """Explain an answer of Vault that is an error."""
    said = " ".join(trouble.errors) if isinstance(trouble.errors, list) else ""
    if isinstance(trouble, exceptions.VaultDown):
        return SecretUnavailable(
            path, "Vault is sealed or in maintenance (503).", "Have it unsealed; the step can then be retried.",
            transient=True,
        )  # fmt: skip
    if isinstance(trouble, exceptions.RateLimitExceeded):
        return SecretUnavailable(path, "Vault takes no more requests for now (429).", _PASSES, transient=True)
    if isinstance(trouble, exceptions.Forbidden | exceptions.Unauthorized):
        return SecretUnavailable(
            path,
            f"Vault does not let this installation read the secret {path} (403).",
            "Give its policy `read` on opsconductor/TENANT/* below the mount (in KV version 2: MOUNT/data/...).",
        )
    if isinstance(trouble, exceptions.InvalidPath):
        if "no handler for route" in said:
            return SecretUnavailable(
                path, "Vault has no KV engine at this mount.", "Correct VAULT_MOUNT, or enable KV version 2 there."
            )
        return not_there(path)
    if isinstance(trouble, exceptions.InvalidRequest):
        return SecretUnavailable(
            path, "Vault does not understand the request (400).", "Check that the KV engine has version 2."
        )
    if isinstance(trouble, exceptions.VaultNotInitialized):
        return SecretUnavailable(path, "Vault is not initialised (501).", "Have it initialised.")
    return SecretUnavailable(path, "Vault answered with an error of its own.", _PASSES, transient=True)


def of_connection(path: str, trouble: requests.RequestException) -> SecretUnavailable:
    """Explain why no answer came. The exception's own text is left out: it names the whole URL."""
    if isinstance(trouble, requests.exceptions.SSLError):
        return SecretUnavailable(
            path,
            "Vault's certificate is not trusted.",
            "Set VAULT_CACERT to the authority that signed it, or correct the name in VAULT_ADDR.",
        )
    why = "does not answer in time" if isinstance(trouble, requests.Timeout) else "cannot be reached"
    return SecretUnavailable(path, f"Vault {why}.", f"Check VAULT_ADDR and the network. {_PASSES}", transient=True)


def of_redirect(path: str, answer: Any) -> SecretUnavailable:
    """Explain an answer that is neither a secret nor an error. Redirects are not followed: the token would go along."""
    if isinstance(answer, requests.Response) and answer.is_redirect:
        return SecretUnavailable(
            path, "Vault redirects to another address.", "Set VAULT_ADDR to the active node, or its load balancer."
        )
    return SecretUnavailable(path, "What answers at VAULT_ADDR does not speak as Vault does.", "Correct VAULT_ADDR.")


def not_signed_in(path: str, how: str) -> SecretUnavailable:
    """The credentials of this installation are not good, or not any more."""
    return SecretUnavailable(path, f"Vault does not accept {how}.", f"Set a valid one ({how}) and restart the workers.")
