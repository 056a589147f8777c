"""How to sign in on a machine, from what its asset and its credential say."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from executions.connectors.base import Credential, Target
from executions.connectors.winrm.shell import Login

HTTPS_PORT = 5986
AUTHENTICATIONS = ("negotiate", "ntlm", "kerberos", "basic")


class Unusable(Exception):
    """The credential is none, or of a form that WinRM cannot use. The text says what to store instead."""


def login_for(target: Target, options: Mapping[str, Any]) -> Login:
    """By host name where there is one: certificates and Kerberos tickets are made out for names. Raises Unusable."""
    host = target.hostname or target.ip_address or target.name
    port = target.port or HTTPS_PORT
    authorities = options.get("winrm_ca_bundle") or ssl.get_default_verify_paths().cafile or True
    credential = target.credential
    if credential is None:
        raise Unusable(f"The asset {target.name} names no credential. Store one and write its path as the credential.")
    if credential.certificate and credential.private_key:
        _check_key(target, credential)
        return Login(
            host,
            port,
            "certificate",
            certificate=credential.certificate,
            private_key=credential.private_key,
            passphrase=credential.passphrase,
            authorities=str(authorities) if authorities is not True else True,
        )
    username = _username(target, credential)
    if not credential.password or not username:
        missing = "a user name" if credential.password else "a password"
        raise Unusable(
            f"The credential of {target.name} has no {missing.partition(' ')[2]}, which WinRM needs. Store"
            ' {"username": ..., "password": ..., "domain": ...}, or a certificate with its private_key.'
        )
    return Login(
        host,
        port,
        str(options.get("winrm_auth") or "negotiate"),
        username=username,
        password=credential.password,
        authorities=str(authorities) if authorities is not True else True,
    )


def _check_key(target: Target, credential: Credential) -> None:
    try:
        x509.load_pem_x509_certificates(credential.certificate.encode())
        password = credential.passphrase.encode() or None
        serialization.load_pem_private_key(credential.private_key.encode(), password)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: a passphrase too many, or none
        raise Unusable(
            f"The certificate or private_key in the credential of {target.name} cannot be read. Store both in PEM, and"
            " the passphrase if the key has one."
        ) from None


def _username(target: Target, credential: Credential) -> str:
    name = credential.username or target.username
    domain = credential.domain or target.domain
    if name and domain and "\\" not in name and "@" not in name:
        return f"{domain}\\{name}"
    return name
