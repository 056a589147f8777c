"""How large a plan may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan may ask for. Beyond any of these it is refused with plan_too_large or too_many_targets.

    max_bytes         size of the document, aliases of YAML expanded
    max_steps         steps of a plan
    max_targets       different machines that a plan touches: its blast radius
    max_step_targets  steps times their targets, each of which becomes a row
    max_depth         nesting of lists and mappings in the document
    max_globs         different patterns in depends_on, over all steps
    """

    max_bytes: int = 1024 * 1024
    max_steps: int = 1000
    max_targets: int = 1000
    max_step_targets: int = 10_000
    max_depth: int = 20
    max_globs: int = 500
