"""The files that an execution's playbooks may take in, to be read by whoever decides on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from executions.connectors.ansible.contents import Entry, entries_of
from executions.connectors.ansible.playbooks import NoPlaybook
from executions.models import ExecutionPlan
from executions.pages.plan_view import bound_parts, may_read_files
from executions.pages.views import page, signed_in, visible
from executions.plans.bound_files import changed_files
from safety.masking import mask_text

MOST_LISTED = 500
MOST_SHOWN_BYTES = 256 * 1024


@dataclass
class BoundFiles:
    """The folder of playbooks as this host has it now, beside what the plan is bound to. `chosen`: the file to read."""

    document: Mapping[str, Any]
    chosen: str = ""
    problem: str = ""
    cut: bool = False
    text: str = ""
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.entries = sorted(entries_of(settings.ANSIBLE_PLAYBOOKS), key=self._nearest_first)
        except NoPlaybook as problem:
            self.problem = f"The folder of playbooks cannot be read here: it {problem.message}. {problem.how_to_fix}"
            return
        self.chosen = self.chosen or self.playbooks[0]
        entry = next((entry for entry in self.entries if entry.name == self.chosen), None)
        if entry is None:
            self.problem = f"There is no {self.chosen} in the folder of playbooks now."
        else:
            self._read(entry)

    @cached_property
    def bound(self) -> Mapping[str, Any]:
        """What was noted at submit: of one plan it is the same for all of its steps, but for the playbook."""
        found: Mapping[str, Any] = self._parts()[0]["files"]
        return found

    @cached_property
    def playbooks(self) -> list[str]:
        """The playbooks that the plan names."""
        return list(dict.fromkeys(part["inputs"]["playbook"] for part in self._parts()))

    @cached_property
    def changes(self) -> list[str]:
        return changed_files(self.document["steps"])

    @property
    def listed(self) -> list[Entry]:
        return self.entries[:MOST_LISTED]

    @property
    def more(self) -> int:
        return max(0, len(self.entries) - MOST_LISTED)

    def _parts(self) -> list[Mapping[str, Any]]:
        return list(bound_parts(self.document))

    def _nearest_first(self, entry: Entry) -> tuple[bool, bool, str]:
        beside = {str(Path(name).parent) for name in self.playbooks}
        return entry.name not in self.playbooks, str(Path(entry.name).parent) not in beside, entry.name

    def _read(self, entry: Entry) -> None:
        """Read one that stands in the folder itself. What a link brings in from elsewhere counts, and is not shown."""
        if not Path(entry.path).resolve().is_relative_to(settings.ANSIBLE_PLAYBOOKS):
            self.problem = "It is a link that leads out of the folder of playbooks: read it there."
            return
        try:
            with open(entry.path, "rb") as file:
                content = file.read(MOST_SHOWN_BYTES + 1)
        except OSError as error:
            self.problem = f"It cannot be read here: {error.strerror}."
            return
        if b"\0" in content:
            self.problem = f"It is no text, and has {entry.status.st_size:,} bytes."
            return
        self.cut = len(content) > MOST_SHOWN_BYTES
        self.text = mask_text(content[:MOST_SHOWN_BYTES].decode(errors="replace"))


@page
@require_GET
def files(request: HttpRequest, execution_id: int) -> HttpResponse:
    """What the playbooks of an execution may take in; `file` is the one to read."""
    found = visible(request, execution_id)
    document = ExecutionPlan.objects.filter(pk=found.pk).values_list("document", flat=True).first() or {}
    if not any(True for _ in bound_parts(document)):
        raise Http404("The plan takes in no files of this installation.")
    if not may_read_files(signed_in(request), found):
        raise PermissionDenied("Who submits plans, or decides on this one, may read its playbooks.")
    bound = BoundFiles(document, request.GET.get("file", ""))
    return render(request, "executions/files.html", {"nav": "executions", "execution": found, "files": bound})
