"""Secrets of AWS Secrets Manager."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import boto3
from botocore import exceptions
from botocore.config import Config

from safety.models import Tenant
from safety.secrets.several import AT_ONCE, read_each
from safety.secrets.stores import StoredSecret, place_of
from safety.secrets.unavailable import SecretUnavailable, not_there

T = TypeVar("T")

# At DEBUG botocore writes whole answers into the log.
logging.getLogger("botocore").setLevel(logging.INFO)

_PASSES_BY_ITSELF = frozenset(
    {
        "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown",
        "InternalServiceError", "InternalServiceErrorException", "InternalFailure", "InternalServerError",
        "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException",
    }
)  # fmt: skip
_NOT_ALLOWED = frozenset(
    {
        "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId",
        "InvalidSignatureException", "ExpiredTokenException", "ExpiredToken", "MissingAuthenticationToken",
    }
)  # fmt: skip
_LATER = "Wait until AWS answers again; the step can then be retried."


class AwsStore:
    """Secrets named opsconductor/TENANT/PATH. One client for all threads, which is how boto3 is meant to be used."""

    name = "aws"

    def __init__(self, region: str) -> None:
        config = Config(
            connect_timeout=3,
            read_timeout=5,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=4 * AT_ONCE,
        )
        # A session of its own: the default one is shared with whoever else uses boto3, and is not made for threads.
        self._client = boto3.session.Session().client("secretsmanager", region_name=region, config=config)

    def keep_ready(self) -> None:
        """boto3 renews its credentials when they are needed."""

    def missing(self, tenant: Tenant, paths: Iterable[str]) -> None:
        """A web process need not reach AWS: the worker finds out."""
        return None

    def read(self, tenant: Tenant, paths: Iterable[str]) -> dict[str, StoredSecret | SecretUnavailable]:
        return read_each(lambda path: self._read(tenant, path), paths)

    def _read(self, tenant: Tenant, path: str) -> StoredSecret:
        answer = self._ask(path, lambda client: client.get_secret_value(SecretId=place_of(tenant, path)))
        text = answer.get("SecretString")
        if text is None:
            raise SecretUnavailable(
                path, f"The secret {path} is binary.", "Store text (SecretString), in base64 for example."
            )
        return StoredSecret(path, str(answer["VersionId"]), text=text)

    def write(self, tenant: Tenant, path: str, value: str) -> str:
        name = place_of(tenant, path)
        answer = self._ask(path, lambda client: _put_or_create(client, name, value))
        return str(answer["VersionId"])

    def delete(self, tenant: Tenant, path: str) -> bool:
        name = place_of(tenant, path)
        try:
            self._ask(path, lambda client: client.describe_secret(SecretId=name))
        except SecretUnavailable as trouble:
            if _code_of(trouble.__cause__) == "ResourceNotFoundException":
                return False
            raise
        self._ask(path, lambda client: client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True))
        return True

    def paths(self, tenant: Tenant) -> list[str]:
        folder = place_of(tenant)

        def listed(client: Any) -> list[str]:
            pages = client.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [folder]}])
            return [secret["Name"] for page in pages for secret in page["SecretList"]]

        # The filter does not tell capital from small letters; we do.
        return sorted(name[len(folder) :] for name in self._ask("", listed) if name.startswith(folder))

    def _ask(self, path: str, call: Callable[[Any], T]) -> T:
        try:
            return call(self._client)
        except exceptions.ClientError as trouble:
            raise _explain(path, _code_of(trouble)) from trouble
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as trouble:
            raise SecretUnavailable(
                path, "This process has no credentials for AWS.", "Give it a role, or set its AWS credentials."
            ) from trouble
        except exceptions.SSLError as trouble:
            raise SecretUnavailable(path, "The certificate of AWS is not trusted.", "Check the proxy.") from trouble
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as trouble:
            raise SecretUnavailable(
                path, "AWS Secrets Manager cannot be reached.", f"Check AWS_REGION and the network. {_LATER}",
                transient=True,
            ) from trouble  # fmt: skip
        except exceptions.BotoCoreError as trouble:
            raise SecretUnavailable(
                path, f"AWS cannot be asked: {type(trouble).__name__}.", "Check the configuration of AWS."
            ) from trouble


def _put_or_create(client: Any, name: str, value: str) -> Any:
    """Of two who store a new secret at once, one creates it and the other's value becomes the next version."""
    try:
        return client.put_secret_value(SecretId=name, SecretString=value)
    except client.exceptions.ResourceNotFoundException:
        pass
    try:
        return client.create_secret(Name=name, SecretString=value)
    except client.exceptions.ResourceExistsException:
        return client.put_secret_value(SecretId=name, SecretString=value)


def _code_of(trouble: BaseException | None) -> str:
    return str(trouble.response["Error"]["Code"]) if isinstance(trouble, exceptions.ClientError) else ""


def _explain(path: str, code: str) -> SecretUnavailable:
    if code == "ResourceNotFoundException":
        return not_there(path)
    if code in _PASSES_BY_ITSELF:
        return SecretUnavailable(path, f"AWS Secrets Manager is busy ({code}).", _LATER, transient=True)
    if code in _NOT_ALLOWED:
        return SecretUnavailable(
            path,
            f"AWS does not let this installation read the secret {path} ({code}).",
            "Allow secretsmanager:GetSecretValue on opsconductor/*, or renew its credentials.",
        )
    if code == "InvalidRequestException":
        return SecretUnavailable(
            path, f"The secret {path} is marked for deletion.", "Restore it in AWS, or store it again."
        )
    if code == "DecryptionFailure":
        return SecretUnavailable(
            path, f"AWS cannot decrypt the secret {path}.", "Allow kms:Decrypt with the key that it was stored under."
        )
    return SecretUnavailable(path, f"AWS refuses the secret {path} ({code}).", "Look the code up in AWS.")
