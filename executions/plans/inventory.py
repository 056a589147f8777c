"""What compiling a plan asks of an inventory. The implementation is bound to one tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class InventoryUnavailable(Exception):
    """The inventory cannot be asked now. Nothing is known of a machine then, not even that it does not exist.

    retry_after  seconds after which asking again may help
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class InventoryAsset:
    """A machine as a plan sees it.

    connection   local, ssh, powershell or api
    row          what templates such as `{{ os_type }}` may name: JSON values only
    external_id  its id in an asset service, by which a plan may name it as well; empty without one
    port         None: the usual one of its connection
    sign_in      user name, domain, path of the credential, digest of the host keys; empty where nobody signs in
    """

    asset_id: int
    name: str
    hostname: str | None
    ip_address: str | None
    connection: str
    environment: str
    criticality: str
    tags: tuple[str, ...] = ()
    row: Mapping[str, object] = field(default_factory=dict)
    external_id: str = ""
    port: int | None = None
    sign_in: tuple[str, ...] = ()


class Inventory(Protocol):
    """The machines of one tenant. Every lookup is exact: no substring, no first-row-wins, no default.

    All raise InventoryUnavailable when they cannot know.
    """

    def lookup(self, ref: str) -> Sequence[InventoryAsset]:
        """Assets that `ref` names: by id, else IP address, else full hostname, else name, else short hostname.

        The first of these keys with any match decides; two or more matches are for the caller to refuse.
        """
        ...

    def group(self, name: str) -> Sequence[InventoryAsset] | None:
        """The members of a group; None when there is no such group."""
        ...

    def tag(self, tag: str) -> Sequence[InventoryAsset]:
        """The assets that carry a tag."""
        ...

    def query(self, filters: Mapping[str, object], fields: Sequence[str] | None) -> Sequence[Mapping[str, object]]:
        """The rows of an asset-query, in a stable order; `fields` None means all of them.

        Raises ValueError with a sentence for a filter or field that it does not know: nothing is ever ignored.
        """
        ...
