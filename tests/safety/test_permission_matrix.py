"""Every endpoint, asked by everybody, compared with one table; and nothing of another tenant in any answer.

The table is permission_table.py. An endpoint that is missing there fails: what is added has to be declared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from django.contrib.admin import site
from django.test import Client

from tests.safety.permission_table import ACTIONS, ENDPOINTS
from tests.safety.permission_walk import METHODS, Answer, ask, endpoints, methods_of, path_of, snapshot
from tests.safety.permission_world import ABROAD, PEOPLE, World, make_world

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]

# The same for everybody, by the table, and slow to make: asked by those who could differ.
ALIKE = {("GET", "api/schema/"): ("anonymous", "root", "rival"), ("GET", "metrics"): ("anonymous", "root", "rival")}


@pytest.fixture
def world(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("executions.live.host_key_looks.PATIENCE_SECONDS", 0.0)  # no worker is there to wait for
    logging.disable(logging.CRITICAL)  # thousands of refusals, each with a line
    yield make_world()
    logging.disable(logging.NOTSET)


def routes() -> list[tuple[str, str]]:
    return [(method, route) for route, view in endpoints() for method in methods_of(route, view)]


def test_every_endpoint_is_declared_and_nothing_else_is() -> None:
    there = set(routes())
    assert sorted(there - ENDPOINTS.keys()) == [], "not in tests/safety/permission_table.py: who may do this?"
    assert sorted(ENDPOINTS.keys() - there) == [], "in the table, but there is no such endpoint"


def test_everybody_may_do_what_the_table_says_and_no_more(world: World) -> None:
    wrong: list[str] = []
    for method, route in routes():
        expected = ENDPOINTS.get((method, route))
        for who in ALIKE.get((method, route), PEOPLE):
            answer = ask(world, who, method, route)
            if expected is None or answer.outcome != expected[who]:
                wanted = expected[who] if expected else "nothing: it is not declared"
                wrong.append(f"{method} {route} by {who}: {answer.outcome}, the table says {wanted}")
            wrong += [f"{method} {route} by {who}: {fault}" for fault in faults(world, who, method, answer)]
    assert wrong == [], "\n".join(wrong[:40])


def faults(world: World, who: str, method: str, answer: Answer) -> Iterator[str]:
    """What no answer may be, whatever the table says."""
    if answer.outcome.startswith("5"):
        yield "a fault of ours"
    if answer.wrote and (method == "GET" or answer.outcome in ("401", "403", "404", "405", "login")):
        yield "it was refused, or only looked at, and rows were written"
    foreign = world.home.mark if who in ABROAD else world.away.mark
    if foreign in answer.text:
        at = answer.text.index(foreign)
        yield f"something of the other tenant is in the answer: …{answer.text[max(0, at - 80) : at + 40]}…"


def test_not_even_a_superuser_reaches_an_object_of_another_tenant(world: World) -> None:
    """The table has strangers at the objects of `default`; here its own superuser is at those of the others."""
    wrong: list[str] = []
    for method, route in routes():
        if path_of(world, route, world.away) == path_of(world, route, world.home):
            continue
        for who in ("operator", "root"):
            answer = ask(world, who, method, route, of=world.away)
            if answer.outcome not in ("403", "404", "405", "none") or answer.wrote:
                wrong.append(f"{method} {route} by {who}: {answer.outcome}")
            wrong += [f"{method} {route} by {who}: {fault}" for fault in faults(world, who, method, answer)]
    assert wrong == [], "\n".join(wrong[:40])


def test_a_method_that_an_endpoint_does_not_have_does_nothing(world: World) -> None:
    wrong: list[str] = []
    for route, _view in endpoints():
        for method in METHODS:
            if (method, route) in ENDPOINTS:
                continue
            answer = ask(world, "root", method, route)
            if answer.wrote or answer.outcome.startswith("5"):
                wrong.append(f"{method} {route}: {answer.outcome}, rows written: {answer.wrote}")
    assert wrong == [], "\n".join(wrong[:40])


def test_no_session_does_anything_without_the_token_of_a_form_of_ours(world: World) -> None:
    """Another site's page can make a browser send a POST with the session's cookie, but not the token."""
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    strict.cookies = world.clients["root"].cookies
    world.clients["root"] = strict
    state = snapshot()
    wrong: list[str] = []
    for method, route in sorted(ENDPOINTS):
        if method == "GET" or ENDPOINTS[method, route]["root"] in ("405", "404"):
            continue
        answer = ask(world, "root", method, route)
        if answer.outcome != "403" or answer.wrote:
            wrong.append(f"{method} {route}: {answer.outcome}")
    assert wrong == [], "\n".join(wrong[:40])
    assert snapshot() == state


def declared_actions() -> set[tuple[str, str]]:
    """(model, action) of every action of the admin; `delete_selected` is tried also where it is not offered."""
    found = set()
    for model, model_admin in site._registry.items():
        name = f"{model._meta.app_label}/{model._meta.model_name}"
        found |= {(name, action[1]) for action in model_admin._get_base_actions()}  # type: ignore[attr-defined]
        found.add((name, "delete_selected"))
    return found


def test_every_action_of_the_admin_is_declared_and_does_what_the_table_says(world: World) -> None:
    assert sorted(declared_actions() ^ ACTIONS.keys()) == [], "actions and the table of them differ"
    wrong: list[str] = []
    for (model, action), expected in ACTIONS.items():
        route = f"admin/{model}/"
        chosen = world.ids(f"{route}<path:object_id>/change/", world.home)["object_id"]
        form = {"action": action, "_selected_action": chosen, "reason": "matrix", "post": "yes", "index": "0"}
        for who in PEOPLE:
            answer = ask(world, who, "POST", route, form=form)
            if answer.outcome != expected[who]:
                wrong.append(f"{action} of {model} by {who}: {answer.outcome}, the table says {expected[who]}")
            wrong += [f"{action} of {model} by {who}: {fault}" for fault in faults(world, who, "POST", answer)]
    assert wrong == [], "\n".join(wrong[:40])
