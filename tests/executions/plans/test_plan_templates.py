"""Templates: what is one, where its value comes from, and what is ordinary text."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.plans import TemplateContext, UnresolvedTemplate, render
from executions.plans.templates import OUTPUTS, BadTemplate, Template, parse, split, templates_in
from tests.executions.plans.compiling import compiled, refused, say, step, steps, told

CONTEXT = TemplateContext(
    row={"hostname": "web-1", "port": 22, "tags": ["a", "b"], "owner": None, "site": {"city": "Ulm"}},
    steps={
        "a": {"stdout": "one\ntwo\n", "stderr": "", "exit_code": 3},
        "step 2.b": {"stdout": "x\r\n", "assets": [{"hostname": "h1"}, {"hostname": "h2", "n": 5}]},
    },
    resolved={'steps["q"].assets[0].hostname': "fixed"},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ hostname }}", "web-1"),
        ("{{hostname}}", "web-1"),
        ("{{\thostname\n}}", "web-1"),
        ("ssh {{ hostname }}:{{ port }}", "ssh web-1:22"),
        ("{{ port }}", 22),
        ("{{ tags }}", ["a", "b"]),
        ("{{ tags[1] }}", "b"),
        ("tags={{ tags }}", 'tags=["a","b"]'),
        ("{{ site.city }}", "Ulm"),
        ('{{ site["city"] }}', "Ulm"),
        ("{{ steps.a.stdout }}", "one\ntwo"),
        ("{{ steps.a.stderr }}", ""),
        ("{{ steps.a.exit_code }}", 3),
        ("code {{ steps.a.exit_code }}", "code 3"),
        ("{{ steps['step 2.b'].stdout }}", "x"),
        ("{{ steps['step 2.b'].assets[1].hostname }}", "h2"),
        ("{{ steps['step 2.b'].assets[*].hostname }}", ["h1", "h2"]),
        ("{{ steps['step 2.b'].assets.hostname }}", ["h1", "h2"]),
        ("{{ steps.q.assets[0].hostname }}", "fixed"),
        ("{{ '{{' }} {{ \"}}\" }}", "{{ }}"),
        ("no template", "no template"),
        (
            "{{.Names}} {{ .ID }} {{range .Mounts}}{{.Source}}{{end}}",
            "{{.Names}} {{ .ID }} {{range .Mounts}}{{.Source}}{{end}}",
        ),
        ("{{json .}}{{ end }}{{- if .X -}}{{else}}", "{{json .}}{{ end }}{{- if .X -}}{{else}}"),
        ('{{ $labels.instance }} {{printf "%s" .Name}}', '{{ $labels.instance }} {{printf "%s" .Name}}'),
        ("awk '{{print $1}}'", "awk '{{print $1}}'"),
        ("echo {{a,b},{c,d}} ${X}", "echo {{a,b},{c,d}} ${X}"),
        ("{ {hostname} } }} {{", "{ {hostname} } }} {{"),
    ],
)
def test_a_template_becomes_its_value(text: str, value: object) -> None:
    assert render(text, CONTEXT) == value


def test_lists_and_mappings_are_rendered_within_and_not_changed() -> None:
    given_value = {"{{ hostname }}": ["{{ hostname }}", {"deep": "{{ port }}"}], "n": 1, "t": (None, True)}
    assert render(given_value, CONTEXT) == {"{{ hostname }}": ["web-1", {"deep": 22}], "n": 1, "t": [None, True]}
    assert given_value["{{ hostname }}"] == ["{{ hostname }}", {"deep": "{{ port }}"}]


def test_a_value_is_not_looked_through_for_templates_again() -> None:
    context = TemplateContext(row={"x": "{{ y }}", "y": "no"})
    assert render("{{ x }}", context) == "{{ y }}"
    assert render("a {{ x }}", context) == "a {{ y }}"


def test_values_put_into_a_command_line_can_be_quoted() -> None:
    context = TemplateContext(steps={"a": {"stdout": "x; rm -rf /"}}, row={"port": 22})
    assert render("ls {{ steps.a.stdout }} {{ port }}", context, quote=shlex.quote) == "ls 'x; rm -rf /' 22"
    assert render("{{ steps.a.stdout }}", context, quote=shlex.quote) == "'x; rm -rf /'"


@pytest.mark.parametrize(
    "text",
    [
        "{{ owner }}",
        "{{ nosuch }}",
        "{{ tags[9] }}",
        "{{ hostname.x }}",
        "{{ steps.nosuch.stdout }}",
        "{{ steps.a.assets[0].hostname }}",
        "{{ steps['step 2.b'].exit_code }}",
        "{{ steps['step 2.b'].assets[2].hostname }}",
        "{{ steps['step 2.b'].assets[*].n }}",
        "{{ assets[0].hostname }}",
    ],
)
def test_a_missing_value_is_an_error_and_never_empty_text(text: str) -> None:
    with pytest.raises(UnresolvedTemplate, match=r"\.$"):
        render(["x", {"y": text}], CONTEXT)


@pytest.mark.parametrize(
    "inner",
    ["", "1", "a b", "a|b", "a + 1", "a.", "a[", "a[x]", "a[-1]", "a()", "steps", "steps.a", "steps.stdout",
     "steps.a.stdout.x", "assets[*][*]", "#if x", "a" * 600, "x[*]"],
)  # fmt: skip
def test_what_is_not_a_template_of_ours_is_refused_at_submit(inner: str) -> None:
    with pytest.raises(BadTemplate):
        split("{{ " + inner + " }}")
    assert told([say("{{ " + inner + " }}")]) == [("unresolved_placeholder", "steps[0].inputs.argv[1]")]


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("steps", "assets", "rows", "end", "else", "break", "continue")
)
ids = st.text(st.characters(exclude_characters='{}"', exclude_categories=("C", "Z")), min_size=1, max_size=20)
texts = st.text(st.characters(exclude_characters="{}"), max_size=20)


@given(st.one_of(
    st.builds(lambda path: Template("row", None, tuple(path)), st.lists(names, min_size=1, max_size=3)),
    st.builds(lambda one, what: Template("output", one, (what,)), ids, st.sampled_from(OUTPUTS)),
    st.builds(lambda one, at, name: Template("assets", one, (at, name)), ids, st.integers(0, 99) | st.just("*"), names),
))  # fmt: skip
def test_a_template_written_out_reads_back_as_itself(template: Template) -> None:
    assert parse(template.expression) == template
    assert split("a {{ " + template.expression + " }} b") == ["a ", template, " b"]


@given(st.lists(texts | names.map(lambda name: "{{ " + name + " }}"), max_size=6), st.text(max_size=10))
def test_text_around_templates_stays_as_it_is(pieces: list[str], value: str) -> None:
    known = {inner[3:-3] for inner in pieces if inner.startswith("{{ ")}
    context = TemplateContext(row=dict.fromkeys(known, "v" + value))
    expected = "".join("v" + value if piece.startswith("{{ ") else piece for piece in pieces)
    assert render("".join(pieces), context) == expected


@given(st.text())
def test_text_without_double_braces_is_never_touched(text: str) -> None:
    text = text.replace("{{", "{ {")
    assert render(text, TemplateContext()) == text
    assert list(templates_in(text)) == []


# At submit


def test_templates_stay_in_the_stored_inputs() -> None:
    made = steps(step(id="a"), say("{{ steps.a.stdout }}", "{{ hostname }}", "{{.Names}}", id="b"))
    assert made[1]["inputs"]["argv"] == ["echo", '{{ steps["a"].stdout }}', "{{ hostname }}", "{{.Names}}"]


def test_rows_of_a_query_are_fixed_at_submit() -> None:
    find: dict[str, object] = {"id": "find", "tool": "asset-query", "inputs": {"filters": {"tag": "web"}}}
    made = steps(find, say("{{ assets[1].hostname }}", "{{ assets[*].name }}"))
    assert made[1]["inputs"]["argv"][1:] == [
        '{{ steps["find"].assets[1].hostname }}',
        '{{ steps["find"].assets[*].name }}',
    ]
    assert made[1]["resolved"] == {
        'steps["find"].assets[1].hostname': "web-2.example.com",
        'steps["find"].assets[*].name': ["web-1", "web-2"],
    }
    context = TemplateContext(resolved=made[1]["resolved"])
    assert render(made[1]["inputs"]["argv"], context) == ["echo", "web-2.example.com", ["web-1", "web-2"]]


@pytest.mark.parametrize(
    "template",
    [
        "{{ nosuch }}",
        "{{ ip_addres }}",
        "{{ assets[0].hostname }}",
        "{{ steps.nosuch.stdout }}",
        "{{ steps.me.stdout }}",
        "{{ steps.later.stdout }}",
        "{{ steps.later.exit_code }}",
    ],
)
def test_a_template_without_a_source_is_refused(template: str) -> None:
    plan = [step(id="first"), say("x", f"a {template} b", id="me"), step(id="later")]
    [problem] = refused(plan)
    assert (problem.code, problem.path) == ("unresolved_placeholder", "steps[1].inputs.argv[2]")


def test_a_null_field_of_one_target_is_told() -> None:
    [problem] = refused([say("{{ ip_address }}", targets=["web-1", "db"])])
    assert problem.code == "unresolved_placeholder"
    assert "db" in problem.message


def test_a_target_field_needs_a_target() -> None:
    assert told([{"tool": "http", "inputs": {"url": "http://{{ hostname }}/"}}]) == [
        ("unresolved_placeholder", "steps[0].inputs.url")
    ]


def test_rows_that_are_known_only_when_the_plan_runs_are_no_source() -> None:
    find = {"id": "find", "tool": "asset-query", "inputs": {"filters": {"name": "{{ steps.a.stdout }}"}}}
    assert told([step(id="a"), find, say("{{ assets[0].hostname }}")]) == [
        ("unresolved_placeholder", "steps[2].inputs.argv[1]")
    ]


def test_output_of_several_targets_is_taken_target_by_target_or_not_at_all() -> None:
    plan = [step(id="a", targets=["group:web"]), say("{{ steps.a.stdout }}", targets=["web-2"])]
    compiled(plan)
    plan[1] = say("{{ steps.a.stdout }}", targets=["web-2", "db"])
    [problem] = refused(plan)
    assert "2 targets" in problem.message


def test_a_rollback_can_use_the_output_of_what_it_undoes() -> None:
    undo = {"tool": "command", "inputs": {"argv": ["rm", "{{ steps.make.stdout }}"]}}
    made = steps(step(id="make", rollback=undo))
    assert made[0]["rollback"] is not None
    assert made[0]["rollback"]["inputs"] == {"argv": ["rm", '{{ steps["make"].stdout }}']}
    undo = {"tool": "command", "inputs": {"argv": ["rm", "{{ steps.later.stdout }}"]}}
    assert told([step(id="make", rollback=undo), step(id="later")]) == [
        ("unresolved_placeholder", "steps[0].rollback.inputs.argv[1]")
    ]


@pytest.mark.parametrize("step_id", ["|.", "-$", "a, .b", "end"])
def test_the_id_of_a_step_is_never_taken_for_another_language(step_id: str) -> None:
    [template] = split(f'{{{{ steps["{step_id}"].stdout }}}}')
    assert isinstance(template, Template)
    assert template.step_id == step_id
