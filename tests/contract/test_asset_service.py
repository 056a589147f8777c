"""The asset service as services.md describes it: against fakes, and against a real one when its address is given.

OPSCONDUCTOR_TEST_ASSET_SERVICE_URL (with OPSCONDUCTOR_TEST_SERVICE_TOKEN) names a real one; it is only read.
"""

from __future__ import annotations

import os
import uuid

import pytest

from executions.clients.asset_shapes import ServiceAsset, credential_entries
from executions.clients.assets import AssetService
from executions.clients.troubles import BadAnswer
from opsconductor.service_settings import ServiceSettings
from tests.contract.conftest import TOKEN, settings_of
from tests.contract.fake_services import Answer, FakeAssetService, asset

REAL_URL = os.environ.get("OPSCONDUCTOR_TEST_ASSET_SERVICE_URL", "")


@pytest.fixture
def client(asset_server: FakeAssetService, quick: None) -> AssetService:
    return AssetService(settings_of(asset_server))


def ids(rows: object) -> list[str]:
    return [row.id for row in rows]  # type: ignore[attr-defined]


class TestAnyService:
    """What holds of every service, the fake and a real one."""

    @pytest.fixture(params=["fake", "real"])
    def service(self, request: pytest.FixtureRequest, asset_server: FakeAssetService) -> AssetService:
        if request.param == "real":
            if not REAL_URL:
                pytest.skip("OPSCONDUCTOR_TEST_ASSET_SERVICE_URL names no asset service")
            return AssetService(
                ServiceSettings("asset", REAL_URL, token=os.environ.get("OPSCONDUCTOR_TEST_SERVICE_TOKEN", ""))
            )
        asset_server.assets = [
            asset(1, "web-1", hostname="web-1.example.org", ip_address="10.0.0.1", service_type="ssh"),
            asset(2, "web-2", hostname="web-2.example.org", tags=["nginx"]),
        ]
        return AssetService(settings_of(asset_server))

    def test_everything_it_lists_can_be_read_one_by_one(self, service: AssetService) -> None:
        rows = service.all_assets()
        assert rows
        assert len({row.id for row in rows}) == len(rows)
        for row in rows[:5]:
            assert service.get(row.id) == row

    def test_an_asset_is_found_by_what_it_is_called_and_not_by_a_part_of_it(self, service: AssetService) -> None:
        row = next(row for row in service.all_assets() if len(row.hostname) > 3)
        assert row.id in ids(service.candidates(row.hostname))
        assert row.id in ids(service.candidates(row.hostname.upper()))
        assert row.id not in ids(service.candidates(row.hostname[:-1]))

    def test_what_is_not_there_is_not_found(self, service: AssetService) -> None:
        nothing = uuid.uuid4()
        assert service.candidates(f"no-host-{nothing.hex}") == []
        assert service.get(str(nothing)) is None

    def test_it_says_how_it_is(self, service: AssetService) -> None:
        assert service.health()["status"]


def test_who_asks_is_told_with_every_request(client: AssetService, asset_server: FakeAssetService) -> None:
    client.all_assets()
    (request,) = asset_server.seen
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["User-Agent"].startswith("OpsConductor/")
    assert len(request.headers["X-Trace-Id"]) == 32
    assert TOKEN not in repr(client.client.__dict__)


def test_a_row_that_is_nearly_all_null_is_an_asset_all_the_same(
    client: AssetService, asset_server: FakeAssetService
) -> None:
    number = str(uuid.uuid4())
    asset_server.assets = [asset(number, "x", tags=[None, "a", "a", ""], port="22", ip_address="n/a", is_active="yes")]
    (row,) = client.all_assets()
    assert (row.id, row.tags, row.port, row.ip_address, row.is_active) == (number, ("a",), 22, None, None)
    assert (row.hostname, row.environment, row.service_type) == ("", "", "")


def test_a_list_is_read_to_its_end_page_by_page(client: AssetService, asset_server: FakeAssetService) -> None:
    asset_server.assets = [asset(number, f"h{number}") for number in range(2000)]
    assert len(client.all_assets()) == 2000
    assert [request.query["skip"] for request in asset_server.seen] == ["0", "1000", "2000"]
    assert {request.query["limit"] for request in asset_server.seen} == {"1000"}


def test_a_list_that_changes_while_it_is_read_is_read_again(
    client: AssetService, asset_server: FakeAssetService
) -> None:
    asset_server.assets = [asset(number, f"h{number}") for number in range(1500)]

    def newest_first(skip: int) -> None:
        if skip and len(asset_server.assets) == 1500:
            asset_server.assets.insert(0, asset(9999, "new"))  # pushes the last row of the first page onto the second

    asset_server.before_page = newest_first
    assert {"9999", "999", "1499"} <= set(ids(client.all_assets()))
    assert len(asset_server.seen) == 4


def test_a_list_that_never_stands_still_is_no_answer(client: AssetService, asset_server: FakeAssetService) -> None:
    asset_server.assets = [asset(number, f"h{number}") for number in range(1500)]
    asset_server.before_page = lambda skip: asset_server.assets.insert(0, asset(str(uuid.uuid4()), "n"))
    with pytest.raises(BadAnswer, match="changed 3 times"):
        client.all_assets()


def test_a_service_that_ignores_skip_is_found_out(client: AssetService, asset_server: FakeAssetService) -> None:
    page = {"assets": [asset(number, "x") for number in range(1000)], "total": 5000, "skip": 0, "limit": 1000}
    asset_server.always = Answer(body={"success": True, "data": page})
    with pytest.raises(BadAnswer):
        client.all_assets()


def test_a_host_name_is_compared_with_every_row_that_the_service_finds(
    client: AssetService, asset_server: FakeAssetService
) -> None:
    """The search is a substring's, over names, host names and descriptions, newest first: the first row is a trap."""
    asset_server.assets = [
        asset(3, "web-10", hostname="web-10.example.org"),
        asset(2, "old", hostname="db.example.org", description="stands in for web-1"),
        asset(1, "first", hostname="WEB-1.example.org"),
    ]
    assert ids(client.candidates("web-1.example.org")) == ["1"]
    assert ids(client.candidates("web-1")) == ["1"]
    assert ids(client.candidates("web")) == []


def test_two_machines_of_one_name_are_both_told(client: AssetService, asset_server: FakeAssetService) -> None:
    asset_server.assets = [asset(1, "a", hostname="web-1.b.org"), asset(2, "b", hostname="web-1.a.org")]
    assert ids(client.candidates("web-1")) == ["1", "2"]


def test_an_address_is_looked_for_in_every_row_since_the_service_does_not_search_there(
    client: AssetService, asset_server: FakeAssetService
) -> None:
    asset_server.assets = [asset(number, f"h{number}", ip_address=f"10.0.0.{number}") for number in range(1, 100)]
    asset_server.assets.append(asset(500, "six", ip_address="2001:DB8::1"))
    assert ids(client.candidates("10.0.0.7")) == ["7"]
    assert ids(client.candidates("2001:db8:0::1")) == ["500"]


def test_an_id_is_asked_for_as_one(client: AssetService, asset_server: FakeAssetService) -> None:
    asset_server.assets = [asset(17, "a"), asset(18, "17")]
    assert sorted(ids(client.candidates("17"))) == ["17", "18"]
    assert client.get("../health") is None
    assert asset_server.seen[-1].path == "/../health"  # one part of a path, quoted


def test_an_answer_about_another_asset_is_refused(client: AssetService, asset_server: FakeAssetService) -> None:
    asset_server.always = Answer(body={"success": True, "data": asset(1, "x")})
    with pytest.raises(BadAnswer):
        client.get("2")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>busy</html>", b"[1]", b'{"success": true}', b'{"success": true, "data": null}',
        b'{"success": true, "data": {"assets": null}}', b'{"success": true, "data": {"assets": [{"name": "x"}]}}',
        b'{"success": false, "data": {"assets": []}}', b'{"success": true, "data": {"assets": [], "total": "many"}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_list_of_assets_is_no_answer(
    body: bytes, client: AssetService, asset_server: FakeAssetService
) -> None:
    asset_server.always = Answer(body=body)
    with pytest.raises(BadAnswer):
        client.all_assets()


def test_credentials_are_what_one_signs_in_with_and_nothing_else(
    client: AssetService, asset_server: FakeAssetService
) -> None:
    asset_server.credentials["1"] = {
        "asset_id": 1, "name": "x", "hostname": "h", "ip_address": None, "os_type": "linux", "service_type": "ssh",
        "port": 22, "credential_type": "username_password", "username": "ops", "domain": None, "password": "pa55",
    }  # fmt: skip
    assert credential_entries(client.credentials("1") or {}) == {"username": "ops", "password": "pa55"}
    assert client.credentials("2") is None
    asset_server.has_credentials = False
    assert client.credentials("1") is None  # an older version


def test_credentials_of_another_asset_are_refused(client: AssetService, asset_server: FakeAssetService) -> None:
    asset_server.credentials["1"] = {"asset_id": 2, "username": "ops", "password": "pa55"}
    with pytest.raises(BadAnswer):
        client.credentials("1")


def test_shapes_have_no_secret_in_them() -> None:
    row = ServiceAsset.model_validate(asset(1, "x") | {"password": "pa55", "private_key": "k3y"})
    assert "pa55" not in repr(row)
    assert "k3y" not in repr(row)
