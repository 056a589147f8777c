"""Plans: what a caller hands in, checked, resolved and made ready to be stored, approved and run."""

from executions.plans.compiled import (
    ApprovalFacts,
    CompiledPlan,
    StoredPlan,
    StoredStep,
    StoredTarget,
    TargetUse,
)
from executions.plans.compiler import compile_plan
from executions.plans.inventory import Inventory, InventoryAsset
from executions.plans.limits import PlanLimits
from executions.plans.problems import Code, PlanRefused, Problem
from executions.plans.secret_values import SecretReference
from executions.plans.templates import TemplateContext, UnresolvedTemplate, render

__all__ = [
    "ApprovalFacts",
    "Code",
    "CompiledPlan",
    "Inventory",
    "InventoryAsset",
    "PlanLimits",
    "PlanRefused",
    "Problem",
    "SecretReference",
    "StoredPlan",
    "StoredStep",
    "StoredTarget",
    "TargetUse",
    "TemplateContext",
    "UnresolvedTemplate",
    "compile_plan",
    "render",
]
