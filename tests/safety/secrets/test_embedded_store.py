"""The embedded store: what is in the rows says nothing, a row opens only in its place, keys can be changed."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections

from safety.models import Secret, Tenant
from safety.secrets import SecretUnavailable, StoredSecret
from safety.secrets.embedded import EmbeddedStore

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def tenant(db: None) -> Tenant:
    return Tenant.objects.get(name="default")


def value_in(store: EmbeddedStore, tenant: Tenant, path: str, key: str | None = None) -> str:
    answer = store.read(tenant, [path])[path]
    if isinstance(answer, SecretUnavailable):
        raise answer
    return answer.value(key)


def test_a_stored_value_comes_back_and_each_new_one_is_a_version(tenant: Tenant) -> None:
    store = EmbeddedStore([NEW])
    assert store.write(tenant, "db/orders", "first") == "1"
    assert store.write(tenant, "db/orders", "zweites ü") == "2"
    assert value_in(store, tenant, "db/orders") == "zweites ü"
    assert store.paths(tenant) == ["db/orders"]
    assert store.delete(tenant, "db/orders")
    assert not store.delete(tenant, "db/orders")
    with pytest.raises(SecretUnavailable, match="no secret db/orders") as refused:
        value_in(store, tenant, "db/orders")
    assert not refused.value.transient


def test_entries_of_a_json_object_are_named_by_key(tenant: Tenant) -> None:
    store = EmbeddedStore([NEW])
    store.write(tenant, "db/orders", '{"user": "u", "password": "p4ss", "port": 5432, "empty": ""}')
    assert value_in(store, tenant, "db/orders", "password") == "p4ss"
    assert value_in(store, tenant, "db/orders", "port") == "5432"
    for key, words in (("nothing", "no entry nothing"), ("empty", "is empty")):
        with pytest.raises(SecretUnavailable, match=words):
            value_in(store, tenant, "db/orders", key)
    store.write(tenant, "plain", "text")
    with pytest.raises(SecretUnavailable, match="no entry password"):
        value_in(store, tenant, "plain", "password")


def test_neither_rows_nor_reprs_nor_refusals_hold_the_value(tenant: Tenant) -> None:
    store = EmbeddedStore([NEW])
    store.write(tenant, "db/orders", "sw0rdfish-in-a-row")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(s)::text, sealed FROM safety_secret s")
        text, sealed = cursor.fetchone()
    assert "sw0rdfish" not in text
    assert b"sw0rdfish" not in bytes(sealed)
    answer = store.read(tenant, ["db/orders"])["db/orders"]
    assert isinstance(answer, StoredSecret)
    assert "sw0rdfish" not in repr(answer)
    refused = EmbeddedStore([OLD]).read(tenant, ["db/orders"])["db/orders"]
    assert isinstance(refused, SecretUnavailable)
    assert "sw0rdfish" not in f"{refused!r} {refused}"


def test_another_tenants_secret_is_not_there(tenant: Tenant) -> None:
    store = EmbeddedStore([NEW])
    other = Tenant.objects.create(name="other")
    store.write(other, "db/orders", "theirs")
    with pytest.raises(SecretUnavailable, match="no secret"):
        value_in(store, tenant, "db/orders")
    assert store.paths(tenant) == []
    assert store.missing(tenant, ["db/orders"]) == {"db/orders"}
    assert not store.delete(tenant, "db/orders")
    assert value_in(store, other, "db/orders") == "theirs"


@pytest.mark.parametrize("changed", ["path", "tenant"])
def test_a_row_that_was_put_in_anothers_place_does_not_open(tenant: Tenant, changed: str) -> None:
    """Whoever can write rows, but has no key, gains nothing by swapping them."""
    store = EmbeddedStore([NEW])
    other = Tenant.objects.create(name="other")
    store.write(other, "root", "theirs")
    target = {"path": "mine"} if changed == "path" else {"tenant": tenant}
    owner = other if changed == "path" else tenant
    Secret.objects.filter(path="root").update(**target)
    with pytest.raises(SecretUnavailable, match="no key of FIELD_ENCRYPTION_KEYS opens it"):
        value_in(store, owner, "mine" if changed == "path" else "root")


def test_a_row_that_was_altered_does_not_open(tenant: Tenant) -> None:
    store = EmbeddedStore([NEW])
    store.write(tenant, "a", "value")
    row = Secret.objects.get()
    sealed = bytearray(row.sealed)
    sealed[-1] ^= 1
    Secret.objects.update(sealed=bytes(sealed))
    with pytest.raises(SecretUnavailable):
        value_in(store, tenant, "a")


def test_the_first_key_encrypts_and_all_decrypt(tenant: Tenant) -> None:
    EmbeddedStore([OLD]).write(tenant, "a", "value of a")
    both = EmbeddedStore([NEW, OLD])
    assert value_in(both, tenant, "a") == "value of a"
    both.write(tenant, "b", "value of b")
    assert value_in(EmbeddedStore([NEW]), tenant, "b") == "value of b"
    with pytest.raises(SecretUnavailable, match="no key"):
        value_in(EmbeddedStore([NEW]), tenant, "a")


def test_a_process_without_keys_says_what_to_set(tenant: Tenant) -> None:
    EmbeddedStore([NEW]).write(tenant, "a", "value")
    without = EmbeddedStore([])
    with pytest.raises(SecretUnavailable) as refused:
        value_in(without, tenant, "a")
    assert "FIELD_ENCRYPTION_KEYS" in refused.value.how_to_fix
    with pytest.raises(SecretUnavailable, match="no key"):
        without.write(tenant, "b", "value")
    assert without.missing(tenant, ["a", "b"]) == {"b"}


def test_after_a_rotation_the_old_key_is_not_needed_any_more(tenant: Tenant) -> None:
    old = EmbeddedStore([OLD])
    for number in range(5):
        old.write(tenant, f"a/{number}", f"value {number}")
    EmbeddedStore([b"l" * 32]).write(tenant, "lost", "its key is gone")
    both = EmbeddedStore([NEW, OLD])
    assert both.reseal(dry_run=True).done == 5
    assert Secret.objects.filter(resealed_at=None).count() == 6
    rotation = both.reseal()
    assert (rotation.done, rotation.unreadable) == (5, ("default: lost",))
    assert both.reseal().done == 0
    new = EmbeddedStore([NEW])
    assert [value_in(new, tenant, f"a/{number}") for number in range(5)] == [f"value {number}" for number in range(5)]
    assert Secret.objects.get(path="a/1").version == 1


@pytest.mark.django_db(transaction=True)
def test_a_value_stored_during_a_rotation_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rotation has read the row; before it writes, somebody stores a new value."""
    tenant = Tenant.objects.get(name="default")
    EmbeddedStore([OLD]).write(tenant, "a", "old value")
    both = EmbeddedStore([NEW, OLD])
    assert both._ring is not None
    ring, real = both._ring, both._ring.open

    def open_slowly(sealed: bytes, sealed_with: str, place: str) -> str:
        value = real(sealed, sealed_with, place)
        writer = threading.Thread(target=store_meanwhile)
        writer.start()
        writer.join()
        return value

    def store_meanwhile() -> None:
        EmbeddedStore([OLD]).write(tenant, "a", "new value")
        connections.close_all()

    monkeypatch.setattr(ring, "open", open_slowly)
    assert both.reseal().done == 0
    monkeypatch.undo()
    assert value_in(both, tenant, "a") == "new value"
    assert both.reseal().done == 1
    assert value_in(EmbeddedStore([NEW]), tenant, "a") == "new value"


@pytest.mark.django_db(transaction=True)
def test_of_writers_at_once_each_is_a_version_and_the_value_is_whole() -> None:
    tenant = Tenant.objects.get(name="default")
    store = EmbeddedStore([NEW])
    barrier = threading.Barrier(6)
    versions: list[str] = []

    def write(number: int) -> None:
        barrier.wait()
        versions.append(store.write(tenant, "a", f"{number}" * 1000))
        connections.close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == ["1", "2", "3", "4", "5", "6"]
    assert len(set(value_in(store, tenant, "a"))) == 1
