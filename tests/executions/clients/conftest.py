from __future__ import annotations

from tests.contract.conftest import asset_server as asset_server
from tests.contract.conftest import automation_server as automation_server
from tests.contract.conftest import quick as quick
from tests.executions.engine.conftest import requester as requester
from tests.executions.engine.conftest import workers as workers
