"""Fleet, queue and locks in a real browser: they refresh themselves, and leave alone what people are doing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from playwright.sync_api import Page, expect

from executions.models import Asset, Execution
from queueing.models import Cluster, QueueControl, QueueEntry, Worker
from safety.models import User
from tests.executions.live.rows import make_execution
from tests.queueing.lines import claim_ids, enqueue, entry, new_worker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]
OpenPage = Callable[[str], Page]

FLEET, QUEUE, LOCKS = "/admin/queueing/worker/", "/admin/queueing/queueentry/", "/admin/queueing/assetlock/"


@pytest.fixture(autouse=True)
def control(transactional_db: None) -> None:
    QueueControl.objects.get_or_create(pk=1)


def worker_here(**fields: object) -> int:
    """A worker that goes on beating while a test looks at it: its last beat is ahead."""
    return new_worker(last_beat_at=timezone.now() + timedelta(minutes=5), **fields)


def held(by: User, name: str) -> tuple[int, int]:
    """An execution that holds the lock of a machine; returns both numbers."""
    execution = make_execution(by, steps=["check"], hosts=[name], status="running", title="Restart nginx")
    asset = Asset.objects.get(name=name)
    enqueue(entry(execution.pk, asset.pk) | {"tenant_id": by.tenant_id})
    connection.ensure_connection()
    assert claim_ids(connection.connection, worker_here(), 10) == [execution.pk]
    return execution.pk, asset.pk


def test_the_fleet_moves_by_itself_and_keeps_ticks_and_focus(open_page: OpenPage, alice: User) -> None:
    first, second = worker_here(host="ops-1", pid=11), worker_here(host="ops-1", pid=12)
    page = open_page(FLEET)
    expect(page.locator(".lp-said")).to_contain_text("All is well: 2 workers on 1 host")
    box = page.locator(f"input[data-id='{second}']")
    box.check()
    box.focus()
    expect(page.locator("[data-selected=drain-workers]")).to_have_text("Drain selected (1)")
    before = page.locator("[data-refreshed]").text_content()
    Worker.objects.filter(pk=first).update(last_beat_at=timezone.now() - timedelta(seconds=25))
    worker_here(host="ops-2", pid=13)
    expect(page.locator(".lp-said")).to_contain_text("Worker ops-1/11 has been silent for", timeout=15_000)
    expect(page.locator(".lp-table").first).to_contain_text("ops-2/13")
    expect(page.locator(f"input[data-id='{second}']")).to_be_checked()
    expect(page.locator(f"input[data-id='{second}']")).to_be_focused()
    expect(page.locator("[data-selected=drain-workers]")).to_have_text("Drain selected (1)")
    assert page.locator("[data-refreshed]").text_content() != before


def test_nothing_is_refreshed_under_an_open_dialog(open_page: OpenPage, alice: User) -> None:
    worker_here(host="ops-1", pid=11)
    page = open_page(FLEET)
    page.click("button:has-text('Drain the queue')")
    reason = page.locator("#dialog-drain [name=reason]")
    expect(reason).to_be_focused()
    reason.fill("upgrade")
    worker_here(host="ops-2", pid=12)
    expect(page.locator("[data-live-word]")).to_have_text("Paused: a dialog is open", timeout=15_000)
    expect(page.locator(".lp-table").first).not_to_contain_text("ops-2/12")
    page.keyboard.press("Escape")
    expect(page.locator("#dialog-drain")).to_be_hidden()
    expect(page.locator(".lp-table").first).to_contain_text("ops-2/12")
    expect(page.locator("[data-live-word]")).to_have_text("Live")
    assert not QueueControl.objects.get().draining


def test_workers_are_drained_with_the_keyboard_alone(open_page: OpenPage, alice: User) -> None:
    pk = worker_here(host="ops-1", pid=11)
    page = open_page(FLEET)
    page.locator("[data-part=workers] button[data-dialog=drain-workers][data-ids]:not([data-ids=all])").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#dialog-drain-workers")
    expect(dialog.locator("h2")).to_have_text("Drain worker ops-1/11?")
    page.keyboard.press("Enter")  # without a reason nothing is sent
    expect(dialog).to_be_visible()
    page.keyboard.type("kernel update")
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_contain_text("1 of 1 worker drained.")
    expect(page.locator("[data-part=workers] tbody .lp-chip")).to_have_text("Draining")
    worker = Worker.objects.get(pk=pk)
    assert (worker.draining, worker.note) == (True, "Draining, by user:alice: kernel update.")


def test_a_dialog_has_nothing_left_of_the_one_before(open_page: OpenPage, alice: User) -> None:
    worker_here(host="ops-1", pid=11)
    Cluster.objects.create(
        name="test", host="ops-1", pid=1, version="0", processes=1, initial_processes=1, max_processes=8,
        last_beat_at=timezone.now() + timedelta(minutes=5),
    )  # fmt: skip
    page = open_page(FLEET)
    page.click("button:has-text('Drain all')")
    page.keyboard.press("Escape")
    page.click("button:has-text('Drain host') >> nth=0")
    fields = page.locator("#dialog-drain-workers")
    expect(fields.locator("[name=host]")).to_have_value("ops-1")
    expect(fields.locator("[name=ids]")).to_have_value("")
    page.keyboard.press("Escape")
    page.click("button:has-text('Scale')")
    expect(page.locator("#dialog-scale [name=processes]")).to_have_value("1")
    expect(page.locator("#dialog-scale")).to_contain_text("1 wanted now; the hosts have room for 8.")
    assert page.locator("#dialog-scale [name=mode]").input_value() == "off"


def test_a_lock_is_freed_after_its_dialog_said_what_will_happen(open_page: OpenPage, alice: User) -> None:
    number, _ = held(alice, "db-1")
    page = open_page(LOCKS)
    page.click("button:has-text('Free…')")
    dialog = page.locator("#dialog-free")
    expect(dialog).to_contain_text("Free the lock on db-1?")
    expect(dialog).to_contain_text(f"#{number} is asked to stop; the lock is free when its worker has let go")
    dialog.locator("[name=reason]").fill("the outage needs it")
    dialog.locator("button", has_text="Free the lock").click()
    expect(page.locator("body")).to_contain_text(f"#{number} asked to stop.")
    expect(page.locator("[data-part=locks] tbody .lp-chip")).to_have_text("Being freed")
    assert QueueEntry.objects.get(pk=number).revoked_at is not None
    assert Execution.objects.get(pk=number).status == "cancelling"


def test_the_queue_shows_what_came_and_what_went(open_page: OpenPage, alice: User) -> None:
    worker = worker_here()
    page = open_page(QUEUE)
    expect(page.locator("[data-part=entries]")).to_contain_text("Nothing waits.")
    execution = make_execution(alice, steps=["check"], status="queued", title="Look at the disks")
    enqueue(entry(execution.pk) | {"tenant_id": alice.tenant_id})
    expect(page.locator("[data-part=entries]")).to_contain_text("Look at the disks", timeout=15_000)
    expect(page.locator("[data-part=entries]")).to_contain_text("Waiting for a free worker.")
    connection.ensure_connection()
    assert claim_ids(connection.connection, worker) == [execution.pk]
    expect(page.locator("[data-part=entries]")).to_contain_text("Nothing waits.", timeout=15_000)
    page.locator(".lp-questions a", has_text="Runs now").click()
    page.locator("[data-part=entries] a", has_text="Look at the disks").click()
    expect(page.locator("h1")).to_have_text("Look at the disks")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(open_page: OpenPage, alice: User, theme: str) -> None:
    for number in range(6):
        new_worker(host=f"a-rather-long-name-of-a-host-{number}.eu-central.example.org", pools=["heavy", "default"])
    held(alice, "another-rather-long-name.of-a-machine.example.org")
    for address in (FLEET, QUEUE, f"{QUEUE}?question=running", LOCKS):
        page = open_page(address)
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in (1400, 900, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)
        page.close()


def test_a_page_that_cannot_be_refreshed_says_so(open_page: OpenPage, alice: User, web: object) -> None:
    worker_here()
    page = open_page(FLEET)
    web.kill()  # type: ignore[attr-defined]
    expect(page.locator("[data-live-word]")).to_have_text("Not refreshed: the server cannot be reached", timeout=20_000)
