"""What the workers of queueing run: QUEUE_RUNNER names `Engine`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
import psycopg
from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, connection

from executions.clients.reporting import report
from executions.connectors.ansible.folder import sweep
from executions.connectors.registry import capabilities, close_connectors, configure_connectors, worker_warden
from executions.connectors.warden import WardenLost
from executions.engine.asking import ask_django
from executions.engine.ledger import LeaseLost, Ledger
from executions.engine.moves import dead_record
from executions.engine.permits import Permit, look_again
from executions.engine.reach import learn_reach
from executions.engine.run import ExecutionRun
from executions.engine.secret_desk import SecretDesk
from executions.engine.sightings import Sightings
from executions.engine.state import ExecutionState, state_of
from executions.services.asset_syncs import AssetSyncs
from executions.services.dead_letter_batches import work_at_batches
from executions.services.decisions import expire_overdue
from executions.services.notices import NoticeSender
from executions.services.stop import WITHDRAWN
from executions.tools import get_catalog
from queueing.connections import connect
from queueing.fleet import Registration
from queueing.models import DeadReason
from queueing.queue import Connection, Lease
from safety import audit, masking_rules
from safety.secrets import configured_store

log = logging.getLogger(__name__)

EXIT_WITHOUT_WARDEN = 71

# Errors of the database that come from what an execution holds, and would come again with it. All others say that the
# database is away, slow, or of another release: no execution is to blame for that.
OF_THE_DATA = (psycopg.DataError, psycopg.IntegrityError, DataError, IntegrityError)


class Engine:
    """One for each worker process; see queueing.worker.Runner for which thread calls what."""

    def __init__(self, registration: Registration, lose: Callable[[int], None]) -> None:
        configure_connectors(
            http_allowed_networks=settings.HTTP_ALLOWED_NETWORKS,
            options={
                "ansible_playbooks": settings.ANSIBLE_PLAYBOOKS,
                "ansible_forks": settings.ANSIBLE_FORKS,
                "ssh_known_hosts": settings.SSH_KNOWN_HOSTS,
                "ssh_agent_sockets": settings.SSH_AGENT_SOCKETS,
                "winrm_ca_bundle": settings.WINRM_CA_BUNDLE,
                "winrm_auth": settings.WINRM_AUTH,
                "automation": settings.AUTOMATION_SERVICE,
            },
        )
        get_catalog()  # a broken catalog ends the worker now, not the first execution later
        self._actor = registration.actor
        self._warden = worker_warden()
        self._ledger = Ledger(registration.worker_id, lose)
        configured_store().keep_ready()
        self._secrets = SecretDesk()
        self._runs: dict[int, ExecutionRun] = {}
        self._connection: Connection | None = None
        self._notices = NoticeSender()
        self._sightings = Sightings()
        self._syncs = AssetSyncs()
        self._shutting_down = False

    @staticmethod
    def capabilities() -> Sequence[str]:
        return (*capabilities(), *(["automation"] if settings.AUTOMATION_SERVICE is not None else []))

    def prepare(self, leases: Sequence[Lease]) -> list[Coroutine[Any, Any, bool]]:
        """Load the executions of these leases, and look again whether they may still be run.

        Raises psycopg.Error or DatabaseError when the database cannot be reached.
        """
        try:
            return self._prepare(leases)
        except Exception as error:
            if isinstance(error, (psycopg.Error, DatabaseError)) and not isinstance(error, OF_THE_DATA):
                raise
            log.exception("%d executions could not be prepared.", len(leases))
            if len(leases) == 1:
                return [self._bury(leases[0], error)]
        # One of them is bad. Each for itself, then, so that it harms no other.
        return [coroutine for lease in leases for coroutine in self.prepare([lease])]

    def _prepare(self, leases: Sequence[Lease]) -> list[Coroutine[Any, Any, bool]]:
        loaded = self._load([lease.execution_id for lease in leases])
        states = [state for state in loaded.values() if isinstance(state, ExecutionState)]
        permits = dict(zip((state.id for state in states), ask_django(lambda: look_again(states)), strict=True))
        ask_django(lambda: learn_reach(states))
        if refused := [state for state in states if permits[state.id].refusal is not None]:
            ask_django(
                lambda: audit.record_many([_refusal(state, permits[state.id], self._actor) for state in refused])
            )
        begun: list[Coroutine[Any, Any, bool]] = []
        for lease in leases:
            state = loaded[lease.execution_id]
            if isinstance(state, ExecutionState):
                run = ExecutionRun(state, lease, self._ledger, self._secrets, self._actor, permits[state.id])
                begun.append(self._run(run))
            else:
                begun.append(self._bury(lease, state))
        return begun

    def upkeep(self) -> None:
        """Do all that is to be done now and then, each for itself: a fault in one keeps no other from being done.

        Raises OperationalError when the database cannot be reached: the rest would only wait for it, too.
        """
        duties: dict[str, Callable[[], object]] = {
            "Overdue approvals could not be expired.": expire_overdue,
            "Batches of the DLQ could not be worked at.": work_at_batches,
            "The audit could not be sealed.": audit.seal,
            "Notices could not be looked for.": self._notices.nudge,
            "Syncs of assets could not be looked for.": self._syncs.nudge,
            "What was seen of assets could not be written.": self._sightings.write,
            "How the services answer could not be written.": report,
            "What killed runs of playbooks left in memory could not be removed.": sweep,
            "The rules of masking could not be refreshed.": masking_rules.refresh,
        }
        for failed, duty in duties.items():
            try:
                ask_django(duty)
            except Exception:
                if connection.connection is None:
                    raise
                log.exception(failed)

    def stop(self, execution_id: int, reason: str, detail: str) -> None:
        run = self._runs.get(execution_id)
        if run is not None:
            run.control.stop(WITHDRAWN if detail.startswith(f"{WITHDRAWN}:") else reason)

    def shut_down(self) -> None:
        self._shutting_down = True
        for run in self._runs.values():
            run.control.shut_down()

    def extend(self, until: float) -> None:
        self._warden.extend(until)

    def fence(self) -> None:
        self._warden.kill_all()

    async def close(self) -> None:
        await self._ledger.close()
        await close_connectors()
        self._secrets.close()
        self._warden.close()

    async def _run(self, run: ExecutionRun) -> bool:
        execution_id = run.state.id
        self._runs[execution_id] = run
        if self._shutting_down:
            run.control.shut_down()
        try:
            return await run.run()
        except WardenLost:
            # Without its warden this process could leave commands behind. It ends, and another takes its place.
            log.critical("The warden is gone: this worker stops what it runs and ends.")
            self.fence()
            os._exit(EXIT_WITHOUT_WARDEN)
        finally:
            self._sightings.note(run.state)
            if self._runs.get(execution_id) is run:
                del self._runs[execution_id]

    async def _bury(self, lease: Lease, error: Exception) -> bool:
        """An execution that cannot even be loaded harms no other: it goes to the DLQ."""
        reason = f"It could not be loaded: {type(error).__name__}: {error}"
        with contextlib.suppress(LeaseLost):
            await self._ledger.commit(dead_record(lease, DeadReason.ENGINE_ERROR, reason, self._actor))
        return False

    def _load(self, execution_ids: list[int]) -> dict[int, ExecutionState | Exception]:
        answers: dict[int, ExecutionState | Exception] = {
            execution_id: LookupError("its rows are not there") for execution_id in execution_ids
        }
        for loaded in orjson.loads(self._ask_for(execution_ids)):
            try:
                answers[loaded["id"]] = state_of(loaded)
            except Exception as error:
                log.exception("Execution %s could not be loaded.", loaded["id"])
                answers[loaded["id"]] = error
        return answers

    def _ask_for(self, execution_ids: list[int]) -> str:
        """Load from the database. What was claimed just now is worth a second try, over a new connection."""
        try:
            return self._ask_once(execution_ids)
        except psycopg.OperationalError:
            if self._connection is not None:
                self._connection.close()
            return self._ask_once(execution_ids)

    def _ask_once(self, execution_ids: list[int]) -> str:
        if self._connection is None or self._connection.closed:
            self._connection = connect("loader")
        row = self._connection.execute(
            "SELECT executions_load(%s::bigint[])::text", (execution_ids,), prepare=True
        ).fetchone()
        assert row is not None
        return str(row[0])


def _refusal(state: ExecutionState, permit: Permit, actor: str) -> audit.Entry:
    """Return what the audit is told of an execution that may not go on."""
    assert permit.refusal is not None
    return audit.Entry(
        action="execution.start",
        actor=actor,
        tenant_id=state.tenant_id,
        object_type="execution",
        object_id=state.id,
        object_name=str(state.document.get("title", "")),
        allowed=False,
        code=permit.refusal.error_code,
        reason=permit.refusal.reason,
    )
