"""The pages of the inventory: what they show, to whom, at which price."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions.host_keys import fingerprints_of
from executions.models import Asset, AssetGroup, Execution, StepTarget
from safety.accounts import set_roles
from safety.models import User
from safety.secrets.keeping import store_secret
from tests.executions.live.rows import make_execution, make_user

pytestmark = pytest.mark.django_db

BACKEND = "safety.backends.PasswordBackend"
LIST = "/executions/assets/"
IMPORT = "/executions/assets/import/"


@pytest.fixture
def root() -> User:
    return make_user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def browser(root: User) -> Client:
    return signed_in(root)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend=BACKEND)
    return client


def add(user: User, name: str, **fields: Any) -> Asset:
    return Asset.objects.create(tenant=user.tenant, name=name, **{"connection": "ssh", **fields})


def shown(client: Client, query: str = "") -> str:
    response = client.get(f"{LIST}{query}")
    assert response.status_code == 200
    return response.content.decode()


def names_on(client: Client, query: str) -> set[str]:
    return {asset.name for asset in Asset.objects.all() if f">{asset.name}</a>" in shown(client, query)}


def test_the_list_is_filtered_by_what_one_asks_for(browser: Client, root: User) -> None:
    group = AssetGroup.objects.create(tenant=root.tenant, name="front")
    add(root, "web-1", hostname="web-1.example.org", environment="staging", tags=["nginx"]).groups.add(group)
    add(root, "db-1", ip_address="192.0.2.7", connection="powershell", health="unreachable", checked_at=timezone.now())
    old = add(root, "old")
    Asset.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=45))
    for query, expected in (
        ("?q=example.org", {"web-1"}),
        ("?q=192.0.2", {"db-1"}),
        ("?environment=Staging", {"web-1"}),
        ("?group=front", {"web-1"}),
        ("?tag=nginx", {"web-1"}),
        ("?connection=powershell", {"db-1"}),
        ("?health=unreachable", {"db-1"}),
        ("?health=none", {"web-1", "old", "localhost"}),
        ("?stale=true", {"old"}),
        ("?stale=false&connection=ssh", {"web-1"}),
        ("?q=%00", {"web-1", "db-1", "old", "localhost"}),
        ("?q=nothing", set()),
    ):
        assert names_on(browser, query) == expected, query
    assert "Nothing matches" in shown(browser, "?q=nothing")


def test_a_thousand_assets_cost_as_many_queries_as_ten(browser: Client, root: User) -> None:
    group = AssetGroup.objects.create(tenant=root.tenant, name="g")

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            shown(browser)
        return len(queries)

    group.assets.set([add(root, f"m-{n}") for n in range(10)])
    few = cost()
    group.assets.add(
        *Asset.objects.bulk_create(Asset(tenant=root.tenant, name=f"n-{n}", connection="ssh") for n in range(990))
    )
    assert cost() == few
    assert few <= 8
    assert "The first 500." in shown(browser)


def test_an_asset_shows_how_it_is_reached_and_never_a_secret(browser: Client, root: User) -> None:
    store_secret(root.tenant, "db/login", "only-for-this-test", by=None)
    asset = add(
        root, "db-1", hostname="db-1.example.org", credential="db/login", host_key="ssh-ed25519 AAAAC3", username="svc",
        health="refused", health_code="host_key_changed", health_message="Another key.", checked_at=timezone.now(),
    )  # fmt: skip
    page = browser.get(f"{LIST}{asset.pk}/").content.decode()
    for text in ("db/login", "is stored", "ssh-ed25519", "as svc", "host_key_changed", "Another key.", "Refused"):
        assert text in page, text
    assert "only-for-this-test" not in page
    Asset.objects.filter(pk=asset.pk).update(credential="db/none", host_key="")
    page = browser.get(f"{LIST}{asset.pk}/").content.decode()
    assert "is not stored" in page
    assert "not pinned" in page


def test_an_asset_shows_what_was_done_on_it_last(browser: Client, root: User) -> None:
    asset = add(root, "db-1")
    on_it = make_execution(root, hosts=["db-1"], title="Restart it")
    make_execution(root, hosts=["localhost"], title="Something else")
    assert StepTarget.objects.filter(execution=on_it, asset=asset).exists()
    with CaptureQueriesContext(connection) as queries:
        page = browser.get(f"{LIST}{asset.pk}/").content.decode()
    assert "Restart it" in page
    assert "Something else" not in page
    assert len(queries) <= 12


def test_a_host_key_that_was_looked_at_is_shown_beside_the_known_one_at_a_fixed_price(
    browser: Client, root: User
) -> None:
    asset = add(root, "db-1", host_key="SHA256:known")
    look = make_execution(root, steps=["check"], hosts=["db-1"], status="succeeded", step_status="succeeded")
    look.steps.update(tool="asset-host-key")
    blob = "AAAAC3NzaC1lZDI1NTE5AAAAIOI6dIrLop9dfrXpbbIw4skwOCeOAQRo1tNV1FmUPLnm"
    [fingerprint] = fingerprints_of(f"ssh-ed25519 {blob}")
    keys = [{"base64": blob, "fingerprint": fingerprint}, {"base64": blob, "fingerprint": "SHA256:forged"}]
    StepTarget.objects.filter(execution=look).update(data={"host_keys": keys}, finished_at=timezone.now())
    with CaptureQueriesContext(connection) as queries:
        page = browser.get(f"{LIST}{asset.pk}/host-key/?look={look.pk}").content.decode()
    assert "another key than the known one" in page
    assert fingerprint in page
    assert "SHA256:forged" not in page
    assert len(queries) <= 9
    for odd in ("", "0", "-1", "x", "9" * 30):
        page = browser.get(f"{LIST}{asset.pk}/host-key/", {"look": odd}).content.decode()
        assert "It was not asked yet" in page


def test_texts_of_an_asset_are_texts(browser: Client, root: User) -> None:
    bad = "<script>alert(1)</script>"
    asset = add(root, bad, description=bad, tags=[bad], health="failed", health_message=bad, owner=bad, host_key=bad)
    for address in (LIST, f"{LIST}{asset.pk}/"):
        assert bad not in browser.get(address).content.decode()


def test_a_check_is_asked_for_with_a_button(browser: Client, root: User) -> None:
    asset = add(root, "db-1")
    response = browser.post(f"{LIST}{asset.pk}/check/")
    execution = Execution.objects.get()
    assert response.headers["Location"] == f"/executions/{execution.pk}/"
    vera = make_user("vera")
    set_roles(vera, ["viewer"])
    page = signed_in(vera).get(f"{LIST}{asset.pk}/").content.decode()
    assert "needs the right execute_read" in page
    response = signed_in(vera).post(f"{LIST}{asset.pk}/check/", follow=True)
    assert "You may not run plans that read on 1 of" in response.content.decode()
    assert Execution.objects.count() == 1


def test_an_import_is_previewed_and_then_done(browser: Client, root: User) -> None:
    add(root, "web-1", hostname="before")
    form = {"format": "csv", "text": "name,hostname,connection\nweb-1,after,ssh\nweb-2,,ssh\n", "update": "yes"}
    page = browser.post(IMPORT, {**form, "do": "preview"}).content.decode()
    assert "It would be imported" in page
    assert "<td>web-2</td><td>new</td>" in page
    assert "<td>web-1</td><td>hostname</td>" in page
    assert not Asset.objects.filter(name="web-2").exists()
    assert form["text"].replace("\n", "") in page.replace("\n", "")
    response = browser.post(IMPORT, {**form, "do": "import"}, follow=True)
    assert "1 created, 1 changed, 0 as before." in response.content.decode()
    assert Asset.objects.get(name="web-1").hostname == "after"


def test_a_file_is_shown_as_text_with_what_is_wrong_in_it(browser: Client) -> None:
    file = SimpleUploadedFile("hosts.ini", b"[web]\nweb-1 ansible_port=x\nweb-2 ansible_password=hunter2\n")
    page = browser.post(IMPORT, {"file": file, "do": "import"}).content.decode()
    assert "It is refused" in page
    assert "<code>line 2</code>: port must be a number" in page
    assert "<code>line 3</code>: The variable ansible_password of" in page
    assert "<option selected>ansible-ini</option>" in page
    assert not Asset.objects.filter(name="web-1").exists()
    for name, content, says in (("a.xls", b"x", "must be said"), ("a.csv", b"\xff", "not UTF-8")):
        page = browser.post(IMPORT, {"file": SimpleUploadedFile(name, content), "do": "preview"}).content.decode()
        assert says in page


def test_an_import_is_for_operators(root: User) -> None:
    vera = make_user("vera")
    set_roles(vera, ["viewer"])
    assert signed_in(vera).get(IMPORT).status_code == 403
    assert IMPORT not in shown(signed_in(vera))
    olga = make_user("olga")
    set_roles(olga, ["operator"])
    assert IMPORT in shown(signed_in(olga))
    assert signed_in(olga).get(IMPORT).status_code == 200
