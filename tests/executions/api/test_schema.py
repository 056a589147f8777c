"""The schema: complete, usable without the internet, and true: any input gets an answer that it describes."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.contrib.staticfiles import finders
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from executions.api import urls
from executions.api.codes import CODES
from executions.connectors.base import ErrorCode
from executions.models import Asset, AssetGroup
from executions.plans.problems import Code as PlanCode
from queueing.models import DeadLetter, DeadReason
from tests.executions.api.conftest import Api
from tests.executions.live.rows import make_execution, print_out

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture
def document() -> dict[str, Any]:
    response = Client().get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert response.status_code == 200
    loaded: dict[str, Any] = json.loads(response.content)
    return loaded


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield f"{method} {path}", item[method]


def test_every_call_is_described(document: dict[str, Any]) -> None:
    described = {re.sub(r"{\w+}", "*", path) for path in document["paths"]}
    routed = {f"/api/{re.sub(r'<[^>]+>', '*', str(route.pattern))}" for route in urls.urlpatterns}

    assert routed - {"/api/schema/", "/api/docs/", "/api/"} == described - {"/api/schema/"}


def test_every_call_tells_what_it_gives_and_how_it_refuses(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if "/schema/" in name:
            continue
        assert operation["summary"], name
        assert operation["operationId"], name
        answers = operation["responses"]
        assert any(code.startswith("2") for code in answers), name
        for code, answer in answers.items():
            if int(code) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, code)
        assert {"400", "503"} <= set(answers), name
        if "/errors/" not in name:
            assert "401" in answers, name
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            assert {"application/json", "application/yaml"} <= set(content), name
            assert content["application/json"].get("examples"), name
            assert {"415", "422"} <= set(answers), name


def test_examples_of_bodies_are_what_the_schema_allows(document: dict[str, Any]) -> None:
    import jsonschema

    for name, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        for example in (content or {}).get("examples", {}).values():
            schema = {**content["schema"], "components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(example["value"]), name


def test_lists_say_how_long_a_page_may_be(document: dict[str, Any], admin: Api) -> None:
    for path in ("executions", "assets", "asset-groups", "tools", "dead-letters"):
        described = document["paths"][f"/api/v1/{path}/"]["get"]["parameters"]
        (limit,) = [one["schema"] for one in described if one["name"] == "limit"]
        for number, status in ((limit["minimum"] - 1, 400), (limit["minimum"], 200), (limit["maximum"], 200)):
            assert admin.get(f"{path}/?limit={number}").status_code == status, (path, number)
        assert admin.get(f"{path}/?limit={limit['maximum'] + 1}").status_code == 400, path


def test_all_references_of_the_schema_lead_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)

    missing = set(re.findall(r'"#/components/schemas/([^"]+)"', text)) - set(document["components"]["schemas"])
    assert not missing
    assert document["openapi"].startswith("3.1")


def test_the_docs_page_needs_nothing_from_other_servers() -> None:
    page = Client().get("/api/docs/").content.decode()

    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) >= 3
    assert sources.pop() == "/api/docs/?script="  # its own script, apart from the page
    for source in sources:
        assert source.startswith("/static/"), source
        assert finders.find(source.removeprefix("/static/")), source


def test_every_code_has_its_way_out_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text()
    described: dict[str, str] = {}
    for code, rest in re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE):
        assert len(rest.split("|")[-1].strip()) > 10, code
        described[code] = f"{described.get(code, '')} {rest}"  # of an answer, and of what became of a step
    codes = {*CODES, *map(str, PlanCode), *map(str, ErrorCode), *DeadReason.values}

    assert codes - set(described) == set()
    for code, known in CODES.items():
        assert f" {known.status} " in f" {described[code]} ", code
        assert known.way_out in described[code], code


@pytest.fixture
def _one_transaction() -> Iterator[None]:
    """Let requests leave the connection open: the transaction of the test is on it."""
    for each in (signals.request_started, signals.request_finished):
        each.disconnect(close_old_connections)
    yield
    for each in (signals.request_started, signals.request_finished):
        each.connect(close_old_connections)


@pytest.fixture
def api_schema(admin: Api, _one_transaction: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The schema bound to the application, with one of everything there to act on."""
    monkeypatch.setattr("executions.live.host_key_looks.PATIENCE_SECONDS", 0.0)  # no worker is there to wait for
    running = make_execution(admin.user, steps=["check"], status="running", step_status="running")
    print_out(running.step_targets.get(), ["hello\n"])
    parked = make_execution(admin.user, status="needs_attention", step_status="unknown")
    entry = DeadLetter.objects.create(
        execution_id=parked.pk, tenant_id=admin.user.tenant_id, reason="outcome_unknown", attempts=1
    )
    group = AssetGroup.objects.create(tenant=admin.user.tenant, name="web")
    there = {
        "execution_id": running.pk, "entry_id": entry.pk, "asset_id": Asset.objects.get().pk, "group_id": group.pk,
        "name": "shell", "code": "draining",
    }  # fmt: skip
    schema = schemathesis.openapi.from_wsgi("/api/schema/", get_wsgi_application())
    schema.config.headers = {"Authorization": f"Bearer {admin.token}"}

    @schema.hook
    def map_path_parameters(context: Any, value: dict[str, Any] | None) -> dict[str, Any] | None:
        """Of every other path, name what is there: otherwise nearly all would be 404."""
        if value and sum(map(len, map(str, value.values()))) % 2:
            return {name: there.get(name, given) for name, given in value.items()}
        return value

    return schema


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_input_gets_an_answer_that_the_schema_describes(api_schema: Any, mode: GenerationMode) -> None:
    tried: Counter[str] = Counter()

    def send(case: Any) -> None:
        tried[case.operation.label] += 1
        check(case)

    for found in api_schema.get_all_operations():
        operation = found.ok()
        # Streams have tests of their own, over real sockets.
        if "/schema/" not in operation.label and not operation.label.endswith("/stream"):
            examples = hypothesis.given(case=operation.as_strategy(generation_mode=mode))(send)
            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing wrong can be said to some calls
                FEW_EXAMPLES(examples)()
    assert len(tried) > 25, tried


FEW_EXAMPLES = hypothesis.settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


def check(case: Any) -> None:
    """Send it; the answer must be one that the schema describes, and never a fault of ours."""
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "prefer"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of streams that are not streamed here
        response = case.call()
    if response.status_code >= 500:
        assert response.json()["code"] in ("draining", "busy"), response.text
        return
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    case.validate_response(response, checks=checks)


def test_every_refusal_of_the_services_has_a_code_that_is_explained() -> None:
    source = "".join(path.read_text() for path in (ROOT / "executions" / "services").glob("*.py"))

    named = set(re.findall(r'(?:Refused|ApiProblem)\(\s*"(\w+)"', source))
    assert len(named) > 10
    assert named - set(CODES) == set()
