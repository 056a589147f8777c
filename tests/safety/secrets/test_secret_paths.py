"""Paths: nothing leads out of the tenant (pitfall 28)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety.models import Tenant
from safety.secrets import check_key, check_path
from safety.secrets.keeping import store_secret
from safety.secrets.stores import place_of


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "../other/db", "db/../../other", "db/..", "..", ".", "db/./x", "db//x", "db/",
        "a" * 201, "db\nx", "db x", "db\0x", "db/x\r", "db%2f..%2fx", "db\\..\\x", "ä", "db/{{ x }}", "db?x=1",
        "db#x", "db:x", "~", None, 7, ["db"],
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(ValueError, match="made of letters"):
        check_path(path)


@pytest.mark.parametrize("path", ["db", "db/orders/backup", "a.b/c_d-e", "..a/b..", "a" * 200])
def test_a_path_is_taken_as_it_is(path: str) -> None:
    assert check_path(path) == path


@given(st.text(max_size=40))
def test_whatever_passes_stays_below_the_folder_of_its_tenant(text: str) -> None:
    try:
        path = check_path(text)
    except ValueError:
        return
    place = place_of(Tenant(name="acme"), path)
    parts = place.split("/")
    assert parts[:2] == ["opsconductor", "acme"]
    assert all(part and part not in (".", "..") for part in parts)


@pytest.mark.parametrize("key", ["", "a b", "a/b", "x" * 101, "a\n", None])
def test_what_is_no_key_is_refused(key: object) -> None:
    with pytest.raises(ValueError, match="key of a secret"):
        check_key(key)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("value", "words"), [("", "empty"), ("a\0b", "NUL"), ("x" * 65_537, "65,537 bytes"), ("\ud800", "UTF-8")]
)
def test_a_value_that_no_step_could_use_is_not_stored(value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        store_secret(Tenant.objects.get(name="default"), "a", value, by=None)
