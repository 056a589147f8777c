"""From a caller's document to a plan that can be stored, approved and run; or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from executions.plans.about import About, apply_approval_points, look_around, read_about, split_document
from executions.plans.addresses import check_address
from executions.plans.bound_files import bind_files
from executions.plans.canonical import canonical_form, hash_of
from executions.plans.checking import TITLE, check_title, put_into_check_mode
from executions.plans.compiled import (
    GRAVITY,
    ActionClass,
    ApprovalFacts,
    CompiledPlan,
    StoredPlan,
    StoredStep,
    StoredTarget,
    TargetUse,
    gravest,
)
from executions.plans.fitting import check_fit
from executions.plans.inventory import Inventory, InventoryAsset
from executions.plans.limits import PlanLimits
from executions.plans.order import Graph, put_in_order
from executions.plans.problems import Code, Problems, refuse, shown
from executions.plans.queries import Queries
from executions.plans.reading import SIZE_FIX, read
from executions.plans.references import ReferenceChecker
from executions.plans.rollbacks import check_rollbacks, read_rollbacks, stored_rollback
from executions.plans.routing import Routing, routing_of
from executions.plans.run_as import check_run_as, graver_as
from executions.plans.secret_values import SecretReference
from executions.plans.steps import Draft, read_step
from executions.plans.targets import TargetResolver
from executions.plans.templates import Template, templates_in
from executions.plans.waves import pauses_of, rounds_of, wave_sizes

if TYPE_CHECKING:
    from executions.tools import Catalog

DEFAULT_LIMITS = PlanLimits()


def compile_plan(
    document: object,
    *,
    inventory: Inventory,
    catalog: Catalog,
    limits: PlanLimits = DEFAULT_LIMITS,
    check: bool = False,
) -> CompiledPlan:
    """Check a plan and work out what it would do. Writes nothing; `document` is never changed.

    document: JSON or YAML as bytes or str, or values already parsed: the planner's whole document, its inner plan, the
    native form, or a bare list of steps. check: in check mode, whatever the document says of that.
    Raises PlanRefused with all problems at once.
    """
    values = read(document, limits)
    plan, metadata, is_plan = split_document(values)
    raw_steps = _steps_of(plan, is_plan, limits)
    problems = Problems()
    look_around(values, problems)
    about = read_about(plan, metadata, problems)
    about.check = about.check or check
    check_title(about.title, check=about.check, problems=problems)
    drafts = [read_step(index, raw, catalog, problems) for index, raw in enumerate(raw_steps)]
    _check_ids(drafts, problems)
    read_rollbacks(drafts, about, catalog, problems)
    apply_approval_points(drafts, about, problems)
    drafts, graph = put_in_order(drafts, limits, problems)
    queries = Queries(drafts)
    if queries.rows:
        queries.run(inventory, problems)
    resolver = TargetResolver(inventory, limits, queries, graph, problems)
    for place, draft in enumerate(drafts):
        resolver.resolve(place, draft)
    check_rollbacks(drafts, problems)
    check_run_as(drafts, problems)
    for draft in drafts:
        draft.action_class = graver_as(draft.behaviour.run_as, draft.action_class)
        check_address(draft, problems)
        check_fit(draft, problems)
    references = ReferenceChecker(drafts, queries, graph, problems)
    for place, draft in enumerate(drafts):
        references.check(place, draft)
    unchecked = put_into_check_mode(drafts, problems) if about.check else {}
    bind_files(drafts, problems)
    routing = routing_of(about.labels, resolver.assets.values(), problems)
    if problems or graph is None:
        raise problems.refuse()
    return _assemble(about, routing, drafts, graph, resolver, unchecked)


def _steps_of(plan: Mapping[str, object], is_plan: bool, limits: PlanLimits) -> list[object]:
    steps = plan.get("steps")
    if not is_plan:
        raise refuse(Code.INVALID_INPUT, "plan", "The document is not an object.", "Write an object with steps.")
    if steps is None or steps == [] or steps == {} or steps == "":
        raise refuse(Code.EMPTY_PLAN, "steps", "The plan has no steps.", "Give it at least one step.")
    if not isinstance(steps, list):
        raise refuse(Code.INVALID_INPUT, "steps", "steps must be a list.", "Write a list of steps.")
    if len(steps) > limits.max_steps:
        message = f"The plan has {len(steps):,} steps; at most {limits.max_steps:,} are taken."
        raise refuse(Code.PLAN_TOO_LARGE, "steps", message, SIZE_FIX)
    return steps


def _check_ids(drafts: list[Draft], problems: Problems) -> None:
    """Refuse ids that are given twice; a step without one is named after its place."""
    first: dict[str, Draft] = {}
    for draft in drafts:
        if not draft.id:
            continue
        if draft.id in first:
            problems.add(
                Code.DUPLICATE_STEP_ID,
                f"{draft.path}.id",
                f"The id {shown(draft.id)!r} is also that of {first[draft.id].path}.",
                "Give each step an id of its own, or none.",
            )
        first.setdefault(draft.id, draft)
    for draft in drafts:
        if not draft.id:
            name = f"step-{draft.index + 1}"
            while name in first:
                name += "x"
            draft.id = name
            first[name] = draft


def _assemble(
    about: About,
    routing: Routing,
    drafts: list[Draft],
    graph: Graph,
    resolver: TargetResolver,
    unchecked: Mapping[str, str],
) -> CompiledPlan:
    assets = resolver.assets
    steps = [_stored_step(place, drafts, graph) for place in range(len(drafts))]
    if about.check:
        _mark_checked(steps, unchecked)
    seconds = [step["estimated_duration"] * rounds_of(step) + pauses_of(step) for step in steps]
    uses = _uses(drafts, assets)
    classes = [gravest(_classes(draft)) for draft in drafts]
    title = about.title or _title(drafts)
    if about.check:
        title = f"{TITLE}{title.removeprefix(TITLE)}"
    canonical = canonical_form(about.environment, steps, check=about.check)
    asked = canonical_form(about.environment, steps, check=about.check, with_files=False)
    document: StoredPlan = {
        "title": title,
        "environment": about.environment,
        "labels": about.labels,
        "pool": routing.pool,
        "region": routing.region,
        "version": 1,
        "steps": steps,
        "selectors": resolver.selectors(),
        "rollback_plan": about.rollback_plan,
        "safety_checks": about.safety_checks,
        "observability": about.observability,
        "not_checked": about.not_checked + _remarks(about, steps, uses),
    }
    if about.check:
        document["check"] = True
    refs: set[SecretReference] = set()
    for draft in drafts:
        refs |= draft.secret_refs
    named = tuple(sorted(refs, key=lambda ref: (ref.path, ref.key or "")))
    if named:
        document["secrets"] = [{"path": ref.path, "key": ref.key} for ref in named]
    environments = {asset.environment for asset in assets.values()} | (
        {about.environment} if about.environment else set()
    )
    return CompiledPlan(
        document=document,
        canonical=canonical,
        hash=hash_of(canonical),
        request_hash=hash_of(asked),
        title=title,
        action_class=gravest(classes),
        estimated_seconds=graph.critical_path(seconds),
        targets=uses,
        approval_facts=ApprovalFacts(
            has_irreversible=any(step["irreversible"] for step in steps),
            step_count=len(steps),
            requires_approval_steps=tuple(step["id"] for step in steps if step["requires_approval"]),
            environments=tuple(sorted(environments)),
            criticalities=tuple(sorted({asset.criticality for asset in assets.values()})),
            target_count=len(assets),
        ),
        secret_refs=named,
    )


def _stored_step(place: int, drafts: list[Draft], graph: Graph) -> StoredStep:
    step = _plain_step(place, drafts, graph)
    if step["targets"] and (waves := step["fan_out"].get("waves")):
        step["waves"] = wave_sizes(waves, len(step["targets"]))
    if (files := drafts[place].files) is not None:
        step["files"] = files
    if run_as := drafts[place].behaviour.run_as:
        step["run_as"] = run_as
    return step


def _plain_step(place: int, drafts: list[Draft], graph: Graph) -> StoredStep:
    draft = drafts[place]
    tool, behaviour, rollback = draft.tool, draft.behaviour, draft.rollback
    assert tool is not None
    inputs = draft.inputs
    estimate = draft.estimated_duration
    named = _named_by_templates(inputs) | (_named_by_templates(rollback.inputs) if rollback is not None else set())
    return {
        "id": draft.id,
        "position": place + 1,
        "description": draft.description,
        "tool": tool.name,
        "action_class": draft.action_class,
        "inputs": inputs,
        "depends_on": [drafts[other].id for other in sorted(graph.needs[place])],
        "targets": [_stored_target(asset, row, named) for asset, row in draft.targets],
        "resolved": draft.resolved,
        "on_failure": behaviour.on_failure,
        "retry": behaviour.retry,
        "timeout_seconds": behaviour.timeout_seconds,
        "default_timeout_seconds": float(tool.default_timeout_for(inputs)),
        "idempotent": tool.idempotent_for(inputs) if behaviour.idempotent is None else behaviour.idempotent,
        "irreversible": tool.irreversible_for(inputs)
        or (rollback is not None and rollback.tool.irreversible_for(rollback.inputs)),
        "requires_approval": behaviour.requires_approval,
        "success": behaviour.success,
        "rollback": stored_rollback(rollback),
        "fan_out": behaviour.fan_out,
        "estimated_duration": float(tool.estimated_duration_for(inputs) if estimate is None else estimate),
        "max_output_bytes": tool.max_output_bytes,
        "not_checked": draft.not_checked,
    }


def _mark_checked(steps: list[StoredStep], unchecked: Mapping[str, str]) -> None:
    for step in steps:
        step["check"] = True
        step["irreversible"] = False
        if step["id"] in unchecked:
            step["unchecked"] = unchecked[step["id"]]
            step["estimated_duration"] = 0.0
            step["not_checked"] = [f"Skipped in check mode. {unchecked[step['id']]}", *step["not_checked"]]


def _named_by_templates(inputs: Mapping[str, object]) -> set[str]:
    """The keys of the target's row that templates name: with a thousand targets, whole rows would be most of a plan."""
    return {
        str(template.path[0])
        for _, template in templates_in(inputs)
        if isinstance(template, Template) and template.kind == "row"
    }


def _stored_target(asset: InventoryAsset, row: dict[str, object], named: set[str]) -> StoredTarget:
    stored: StoredTarget = {
        "asset_id": asset.asset_id,
        "name": asset.name,
        "hostname": asset.hostname,
        "ip_address": asset.ip_address,
        "port": asset.port,
        "connection": asset.connection,
        "environment": asset.environment,
        "criticality": asset.criticality,
        "row": {key: row[key] for key in sorted(named) if key in row},
    }
    if asset.sign_in:
        stored["sign_in"] = list(asset.sign_in)
    return stored


def _classes(draft: Draft) -> list[ActionClass]:
    """What the step does at worst: itself, and its rollback."""
    if draft.rollback is None:
        return [draft.action_class]
    return [draft.action_class, draft.rollback.tool.action_class_for(draft.rollback.inputs)]


def _uses(drafts: list[Draft], assets: dict[int, InventoryAsset]) -> dict[int, TargetUse]:
    worst: dict[int, ActionClass] = {}
    for draft in drafts:
        action_class = gravest(_classes(draft))
        for asset, _ in draft.targets:
            if GRAVITY[worst.get(asset.asset_id, "read")] <= GRAVITY[action_class]:
                worst[asset.asset_id] = action_class
    return {
        asset_id: TargetUse(
            asset_id, assets[asset_id].name, action_class != "read", action_class, assets[asset_id].environment
        )
        for asset_id, action_class in worst.items()
    }


def _title(drafts: list[Draft]) -> str:
    said = next((draft.description for draft in drafts if draft.description), "")
    if said:
        return shown(said, 120)
    tool = drafts[0].tool
    more = f" and {len(drafts) - 1} more" if len(drafts) > 1 else ""
    return f"{tool.name if tool else 'plan'}{more}"


def _remarks(about: About, steps: list[StoredStep], uses: dict[int, TargetUse]) -> list[str]:
    """What the plan says that does not fit what it does."""
    remarks: list[str] = []
    if any(step["on_failure"] == "rollback" for step in steps) and not any(step["rollback"] for step in steps):
        remarks.append("A failure is to be rolled back, but no step says how: nothing would be undone.")
    others = sorted({use.environment for use in uses.values()} - {about.environment})
    if about.environment and others:
        remarks.append(f"The plan says environment {about.environment}; it has targets in {', '.join(others)}.")
    return remarks
