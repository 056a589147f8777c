"""The pages as the server renders them."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from executions.models import Execution, Step, StepTarget
from executions.states import ExecutionStatus
from safety.models import User
from safety.secrets.keeping import store_secret
from tests.executions.live.rows import PASSWORD, make_execution, make_user, move_target, print_out, say

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return make_user("alice", is_superuser=True)


@pytest.fixture
def browser(client: Client, alice: User) -> Client:
    client.force_login(alice, backend="safety.backends.PasswordBackend")
    return client


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def test_signing_in_with_the_form_leads_to_the_list_and_out_again(client: Client, alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    form = client.get("/login/")
    token = form.cookies["csrftoken"].value
    fields = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token}
    assert client.post("/login/", {**fields, "password": "wrong"}).status_code == 200
    answer = client.post("/login/", fields)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/executions/")
    assert client.get("/executions/").status_code == 200
    client.post("/logout/", {"csrfmiddlewaretoken": client.cookies["csrftoken"].value})
    assert client.get("/executions/").headers["Location"] == "/login/?next=/executions/"


def test_the_root_leads_to_the_list(browser: Client) -> None:
    assert browser.get("/").headers["Location"] == "/executions/"


@pytest.mark.parametrize("path", ["", "1/", "1/fragments/", "1/hosts/", "1/feed/", "1/log/", "new/", "assets/"])
def test_nothing_is_shown_to_somebody_who_is_not_signed_in(client: Client, path: str) -> None:
    make_execution(make_user("bob"))
    response = client.get(f"/executions/{path}")
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/login/")


@pytest.mark.parametrize("path", ["", "fragments/?names=header", "hosts/", "feed/", "log/"])
def test_an_execution_of_another_tenant_is_not_there(browser: Client, path: str) -> None:
    theirs = make_execution(make_user("mallory", tenant="other"), title="Theirs")
    assert browser.get(f"/executions/{theirs.pk}/{path}").status_code == 404
    assert "Theirs" not in text_of(browser, "/executions/")


@pytest.mark.parametrize("action", ["cancel", "approve", "reject", "retry", "resolve", "dead-letter"])
def test_an_execution_of_another_tenant_cannot_be_touched(browser: Client, action: str) -> None:
    theirs = make_execution(make_user("mallory", tenant="other"), status="queued")
    assert browser.post(f"/executions/{theirs.pk}/{action}/", {"reason": "x"}).status_code == 404
    theirs.refresh_from_db()
    assert theirs.status == "queued"


def test_an_empty_list_says_how_to_begin(browser: Client) -> None:
    page = text_of(browser, "/executions/")
    assert "Nothing has been run yet" in page
    assert "run_plan examples/plans/host-health.yaml" in page
    assert "Nothing matches" in text_of(browser, "/executions/?status=failed")


def test_the_list_is_narrowed_by_its_filters(browser: Client, alice: User) -> None:
    make_execution(alice, title="Restart nginx", status="failed", tags=["web"], hosts=["web-1"])
    make_execution(alice, title="Rotate keys", environment="production")
    for query, shown in {
        "status=failed": "Restart nginx",
        "q=nginx": "Restart nginx",
        "tag=web": "Restart nginx",
        "asset=web-1": "Restart nginx",
        "environment=production": "Rotate keys",
    }.items():
        page = text_of(browser, f"/executions/?{query}&fragment=1")
        assert shown in page
        assert page.count("<tr data-id") == 1
    assert "<tr data-id" not in text_of(browser, "/executions/?actor=nobody")
    assert browser.get("/executions/?q=%00&before=x&status=%27").status_code == 200


def test_the_list_goes_on_to_older_executions(browser: Client, alice: User) -> None:
    for _ in range(53):
        make_execution(alice, steps=["only"])
    first = text_of(browser, "/executions/?fragment=1")
    assert first.count("<tr data-id") == 50
    oldest = min(Execution.objects.order_by("-pk").values_list("pk", flat=True)[:50])
    assert f"?before={oldest}" in first
    assert text_of(browser, f"/executions/?fragment=1&before={oldest}").count("<tr data-id") == 3


def test_the_list_costs_the_same_number_of_queries_however_long_it_is(
    browser: Client, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_execution(alice)
    with django_assert_num_queries(5):  # session, user, page, progress, counts on the chips
        browser.get("/executions/")
    for n in range(30):
        make_execution(make_user(f"user-{n}"), hosts=["a", "b", "c"])
    with django_assert_num_queries(5):
        browser.get("/executions/")


def test_the_page_costs_the_same_number_of_queries_however_many_hosts_there_are(
    browser: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    small = make_execution(alice, hosts=["a"])
    large = make_execution(alice, steps=[f"s{n}" for n in range(8)], hosts=[f"h{n}" for n in range(40)])
    for execution in (small, large):
        # session, user, execution, plan, targets by step, steps, moves, roles, records of the audit, unconfirmed, and
        # what a cancel would undo
        with django_assert_max_num_queries(11):
            browser.get(f"/executions/{execution.pk}/")
        with django_assert_max_num_queries(7):
            browser.get(f"/executions/{execution.pk}/fragments/?names=header,strip,rail,cancel,retry")
        with django_assert_max_num_queries(5):
            browser.get(f"/executions/{execution.pk}/hosts/")


@pytest.mark.parametrize("status", ExecutionStatus.values)
def test_every_status_has_a_page_with_a_word_and_a_sentence(browser: Client, alice: User, status: str) -> None:
    execution = make_execution(make_user("bob"), status=status)
    page = text_of(browser, f"/executions/{execution.pk}/")
    assert f'<span class="chip" data-status="{status}"' in page
    sentence = page.split('<p class="sentence">')[1].split("</p>")[0].split("<span>")[-1].removesuffix("</span>")
    assert len(sentence) > 8
    assert sentence.endswith(".")


def test_a_cancelled_execution_says_who_cancelled_it_and_why(browser: Client, alice: User) -> None:
    execution = make_execution(alice, status="pending_approval", approval_level=1)
    browser.post(f"/executions/{execution.pk}/cancel/", {"reason": "wrong hosts"})
    assert "Cancelled by alice: wrong hosts" in text_of(browser, f"/executions/{execution.pk}/")


def test_what_cannot_be_done_says_why(browser: Client, alice: User, client: Client) -> None:
    ended = make_execution(alice, status="succeeded", step_status="succeeded")
    assert "Nothing failed." in text_of(browser, f"/executions/{ended.pk}/")
    own = make_execution(alice, status="pending_approval", approval_level=1)
    assert "Nobody approves their own request." in text_of(browser, f"/executions/{own.pk}/")
    viewer = make_user("carol")
    from django.contrib.auth.models import Group

    viewer.groups.add(Group.objects.get(name="viewer"))
    client.force_login(viewer, backend="safety.backends.PasswordBackend")
    running = make_execution(alice)
    assert "Only its requester, an operator or an administrator may cancel it." in text_of(
        client, f"/executions/{running.pk}/"
    )


def test_a_refused_action_is_told_on_the_page(browser: Client, alice: User) -> None:
    ended = make_execution(alice, status="succeeded")
    answer = browser.post(f"/executions/{ended.pk}/cancel/", {"reason": "too late"}, follow=True)
    assert "has already ended" in answer.content.decode()


def test_needs_attention_offers_its_three_ways_out(browser: Client, alice: User) -> None:
    execution = make_execution(alice, status="needs_attention")
    target = StepTarget.objects.filter(execution=execution).select_related("step", "execution")[0]
    move_target(target, "unknown", error="The worker was lost.")
    page = text_of(browser, f"/executions/{execution.pk}/")
    for way in ("succeeded", "failed", "run_again"):
        assert f'data-step="{target.step.key}" data-as="{way}"' in page
    assert "is not known" in page


def test_what_a_machine_printed_and_a_plan_says_is_escaped(browser: Client, alice: User) -> None:
    evil = "<script>alert(1)</script>"
    execution = make_execution(alice, title=evil, status="failed", status_reason=evil, reason=evil, tags=[evil])
    Step.objects.filter(execution=execution).update(error=evil, description=evil, status="failed")
    say(execution, "execution.failed", reason=evil, data={"error": evil, "step": evil})
    for path in (f"/executions/{execution.pk}/", "/executions/"):
        page = text_of(browser, path)
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_pages_run_no_script_and_no_style_of_their_own(browser: Client, alice: User) -> None:
    execution = make_execution(alice)
    for path in (f"/executions/{execution.pk}/", "/executions/", "/executions/new/", "/executions/assets/"):
        response = browser.get(path)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        page = response.content.decode()
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        scripts = [tag for tag in page.split("<script")[1:] if "src=" not in tag.split(">")[0]]
        assert all('type="application/json"' in tag.split(">")[0] for tag in scripts)


def test_secrets_of_the_plan_are_named_and_never_shown(browser: Client, alice: User) -> None:
    execution = make_execution(alice)
    document = execution.plan.document
    document["steps"][0] |= {"tool": "http", "inputs": {"url": "https://example.org", "headers": {"X-Key": "v"}}}
    execution.plan.save()
    page = text_of(browser, f"/executions/{execution.pk}/")
    assert "secret db/orders" in page


def test_the_hosts_table_has_a_cell_for_each_host_and_step(browser: Client, alice: User) -> None:
    execution = make_execution(alice, hosts=["a", "b"])
    target = StepTarget.objects.filter(execution=execution, name="b").select_related("step", "execution")[0]
    StepTarget.objects.filter(pk=target.pk).update(exit_code=3)
    move_target(target, "failed")
    table = browser.get(f"/executions/{execution.pk}/hosts/").json()
    assert [step[1] for step in table["steps"]] == ["check", "apply"]
    rows = dict(table["hosts"])
    assert list(rows) == ["a", "b"]
    assert rows["b"][0][:3] == [target.pk, "failed", 3]
    assert rows["b"][1][1] == "pending"
    assert [row[0][5:] for row in rows.values()] == [[0, 0], [0, 0]], "no waves, and nobody was away"


def test_a_step_in_waves_says_which_host_is_in_which_and_who_was_away(browser: Client, alice: User) -> None:
    execution = make_execution(alice, hosts=["a", "b", "c", "d"], status="failed")
    Step.objects.filter(execution=execution, key="check").update(waves=[1, 2, 1])
    rows = StepTarget.objects.filter(execution=execution, step__key="check")
    rows.filter(name="a").update(status="succeeded", attempt=1)
    rows.filter(name="b").update(status="failed", error_code="connection_refused", error="Nobody listens.", attempt=1)
    rows.filter(name="c").update(status="failed", error_code="exit_code", exit_code=2, attempt=1)
    rows.filter(name="d").update(status="skipped")
    Step.objects.filter(execution=execution, key="check").update(status="failed")
    table = browser.get(f"/executions/{execution.pk}/hosts/").json()
    assert [step[3] for step in table["steps"]] == [3, 0]
    assert {name: cells[0][5:] for name, cells in table["hosts"]} == {
        "a": [1, 0],
        "b": [2, 1],
        "c": [2, 0],
        "d": [3, 0],
    }
    page = text_of(browser, f"/executions/{execution.pk}/")
    for words in ("1 failed", "1 unreachable", "wave 2 of 3", "Retry 4 hosts", "on the 1 that could not be reached"):
        assert words in page, words
    state = browser.get(f"/api/v1/executions/{execution.pk}/").json()
    step = state["steps"][0]
    none = dict.fromkeys(("timed_out", "unknown", "cancelled", "running", "pending"), 0)
    assert step["counts"] == none | {"total": 4, "ok": 1, "failed": 1, "unreachable": 1, "skipped": 1}
    assert [(wave["wave"], wave["counts"]["total"]) for wave in step["waves"]] == [(1, 1), (2, 2), (3, 1)]
    assert step["waves"][1]["counts"] == none | {"total": 2, "ok": 0, "failed": 1, "unreachable": 1, "skipped": 0}
    told = {target["target"]: (target["wave"], target["unreachable"]) for target in step["targets"]}
    assert told == {"a": (1, False), "b": (2, True), "c": (2, False), "d": (3, False)}
    assert state["steps"][1]["waves"] is None


def test_the_feed_page_says_when_everything_was_read(browser: Client, alice: User) -> None:
    execution = make_execution(alice, status="succeeded")
    answer = browser.get(f"/executions/{execution.pk}/feed/?after=0").json()
    assert [item["seq"] for item in answer["items"]] == [1]
    assert answer["ended"] is True
    assert browser.get(f"/executions/{execution.pk}/feed/?after=x").status_code == 400


@pytest.mark.django_db(transaction=True)
async def test_the_whole_output_can_be_downloaded(async_client: Client) -> None:
    from asgiref.sync import sync_to_async
    from django.test import AsyncClient

    client = AsyncClient()

    @sync_to_async
    def prepare() -> int:
        user = make_user("dora", is_superuser=True)
        execution = make_execution(user, hosts=["a", "b"])
        first, second = StepTarget.objects.filter(execution=execution).select_related("execution").order_by("pk")[:2]
        print_out(first, ["one\n", "two\n"])
        print_out(second, ["zwei\n"])
        client.force_login(user, backend="safety.backends.PasswordBackend")
        return execution.pk

    pk = await prepare()
    response = await client.get(f"/executions/{pk}/log/")
    text = b"".join([part async for part in response]).decode()  # type: ignore[attr-defined]
    assert text == "==> check a <==\none\ntwo\n==> check b <==\nzwei\n"
    assert "attachment" in response.headers["Content-Disposition"]


def test_a_plan_is_previewed_and_submitted(browser: Client, alice: User) -> None:
    plan = "title: Look\nsteps:\n  - {id: a, tool: noop}\n"
    preview = browser.post("/executions/new/", {"plan": plan, "do": "preview"}).content.decode()
    assert "It would be accepted" in preview
    assert Execution.objects.count() == 0
    answer = browser.post("/executions/new/", {"plan": plan, "do": "submit", "reason": "to see"})
    execution = Execution.objects.get()
    assert answer.headers["Location"] == f"/executions/{execution.pk}/"
    assert (execution.title, execution.reason, execution.actor) == ("Look", "to see", alice)


def test_a_refused_plan_shows_each_fault_and_keeps_the_text(browser: Client) -> None:
    plan = "steps:\n  - {id: a, tool: no-such-tool}\n  - {id: b, tool: noop, depends_on: [zzz]}\n"
    page = browser.post("/executions/new/", {"plan": plan, "do": "submit"}).content.decode()
    assert "unknown_tool" in page
    assert "unknown_dependency" in page
    assert "no-such-tool}" in page
    assert Execution.objects.count() == 0


def test_assets_show_who_holds_them(browser: Client) -> None:
    page = text_of(browser, "/executions/assets/")
    assert "localhost" in page
    assert "free" in page


def test_the_page_says_whether_the_secrets_of_a_plan_are_there(browser: Client, alice: User) -> None:
    execution = make_execution(alice, status="pending_approval")
    store_secret(alice.tenant, "db/orders", "only-for-this-test", by=None)
    document = execution.plan.document
    document["secrets"] = [{"path": "db/orders", "key": None}, {"path": "not/there", "key": "k"}]
    execution.plan.save()
    page = text_of(browser, f"/executions/{execution.pk}/")
    assert "secret db/orders</span>: it is there" in page
    assert "secret not/there, key k</span>: <b>it is not there</b>" in page
    assert "only-for-this-test" not in page
