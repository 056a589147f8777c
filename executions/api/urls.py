"""Where the calls are. A missing slash at the end is read over: see `without_slash`."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, path, re_path, register_converter, resolve
from django.urls.converters import IntConverter, StringConverter
from django.views.decorators.csrf import csrf_exempt

from executions.api import (
    approvals,
    asset_checks,
    asset_host_keys,
    asset_import,
    assets,
    audit,
    dead_letter_batches,
    dead_letters,
    decisions,
    docs,
    errors,
    executions,
    feed,
    locks,
    queue,
    submissions,
    tokens,
    tools,
    workers,
)
from executions.api.reading import as_id


class RowNumber(IntConverter):
    """The number of a row. One that the database cannot hold names nothing, like any other that is not there."""

    regex = "[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        number = as_id(value)
        if number is None:
            raise ValueError(value)
        return number


class LabelName(StringConverter):
    """The name of a pool, as plans and workers may give it."""

    regex = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


register_converter(RowNumber, "row")
register_converter(LabelName, "label")


@csrf_exempt
def without_slash(request: HttpRequest) -> HttpResponseBase:
    """Serve /api/v1/executions like /api/v1/executions/: a redirect would lose the body of a POST."""
    other = request.path_info.rstrip("/") if request.path_info.endswith("/") else f"{request.path_info}/"
    try:
        found = resolve(other)
    except Resolver404:
        return errors.NoSuchCall.as_view()(request)
    if found.func is without_slash:
        return errors.NoSuchCall.as_view()(request)
    request.resolver_match = found
    served: HttpResponseBase = found.func(request, *found.args, **found.kwargs)
    return served


ONE = "v1/executions/<row:execution_id>/"

urlpatterns = [
    path("v1/executions/", executions.ExecutionsView.as_view()),
    path("v1/executions/batch/", submissions.BatchView.as_view()),
    path("v1/executions/preview/", submissions.PreviewView.as_view()),
    path(ONE, executions.ExecutionView.as_view()),
    path(f"{ONE}steps/", executions.StepsView.as_view()),
    path(f"{ONE}plan/", executions.PlanView.as_view()),
    path(f"{ONE}events/", feed.EventsView.as_view()),
    path(f"{ONE}events/stream", feed.StreamView.as_view()),
    path(f"{ONE}output/", feed.OutputView.as_view()),
    path(f"{ONE}cancel/", decisions.CancelView.as_view()),
    path(f"{ONE}approve/", decisions.ApproveView.as_view()),
    path(f"{ONE}reject/", decisions.RejectView.as_view()),
    path(f"{ONE}withdraw-approval/", decisions.WithdrawApprovalView.as_view()),
    path(f"{ONE}retry/", decisions.RetryView.as_view()),
    path(f"{ONE}resolve/", decisions.ResolveView.as_view()),
    path("v1/approvals/", approvals.ApprovalsView.as_view()),
    path("v1/approvals/count/", approvals.ApprovalsCountView.as_view()),
    path("v1/dead-letters/", dead_letters.DeadLettersView.as_view()),
    path("v1/dead-letters/summary/", dead_letters.SummaryView.as_view()),
    path("v1/dead-letters/batches/", dead_letter_batches.BatchesView.as_view()),
    path("v1/dead-letters/batches/<row:batch_id>/", dead_letter_batches.BatchView.as_view()),
    path("v1/dead-letters/batches/<row:batch_id>/results/", dead_letter_batches.BatchResultsView.as_view()),
    path("v1/dead-letters/batches/<row:batch_id>/cancel/", dead_letter_batches.CancelBatchView.as_view()),
    path("v1/dead-letters/requeue/", dead_letters.RequeueManyView.as_view()),
    path("v1/dead-letters/discard/", dead_letters.DiscardManyView.as_view()),
    path("v1/dead-letters/<row:entry_id>/", dead_letters.DeadLetterView.as_view()),
    path("v1/dead-letters/<row:entry_id>/requeue/", dead_letters.RequeueView.as_view()),
    path("v1/dead-letters/<row:entry_id>/discard/", dead_letters.DiscardView.as_view()),
    path("v1/queue/", queue.QueueView.as_view()),
    path("v1/queue/drain/", queue.DrainView.as_view()),
    path("v1/queue/resume/", queue.ResumeView.as_view()),
    path("v1/queue/entries/", queue.EntriesView.as_view()),
    path("v1/queue/pools/<label:name>/pause/", queue.PausePoolView.as_view()),
    path("v1/queue/pools/<label:name>/resume/", queue.ResumePoolView.as_view()),
    path("v1/workers/", workers.WorkersView.as_view()),
    path("v1/workers/scale/", workers.ScaleView.as_view()),
    path("v1/workers/autoscale/", workers.AutoscaleView.as_view()),
    path("v1/workers/scaling/", workers.ScalingView.as_view()),
    path("v1/workers/drain/", workers.DrainWorkersView.as_view()),
    path("v1/workers/undrain/", workers.UndrainWorkersView.as_view()),
    path("v1/workers/<row:worker_id>/drain/", workers.DrainWorkerView.as_view()),
    path("v1/workers/<row:worker_id>/undrain/", workers.UndrainWorkerView.as_view()),
    path("v1/locks/", locks.LocksView.as_view()),
    path("v1/locks/<row:asset_id>/free/", locks.FreeLockView.as_view()),
    path("v1/assets/", assets.AssetsView.as_view()),
    path("v1/assets/import/", asset_import.AssetImportView.as_view()),
    path("v1/assets/<row:asset_id>/check/", asset_checks.AssetCheckView.as_view()),
    path("v1/assets/<row:asset_id>/host-key/look/", asset_host_keys.HostKeyLookView.as_view()),
    path("v1/assets/<row:asset_id>/host-key/pin/", asset_host_keys.HostKeyPinView.as_view()),
    path("v1/assets/<row:asset_id>/", assets.AssetView.as_view()),
    path("v1/asset-groups/", assets.GroupsView.as_view()),
    path("v1/asset-groups/<row:group_id>/", assets.GroupView.as_view()),
    path("v1/tokens/", tokens.TokensView.as_view()),
    path("v1/tokens/<row:token_id>/", tokens.TokenView.as_view()),
    path("v1/audit/", audit.AuditView.as_view()),
    path("v1/audit/export/", audit.ExportView.as_view()),
    path("v1/tools/", tools.ToolsView.as_view()),
    path("v1/tools/<str:name>/", tools.ToolView.as_view()),
    path("errors/<str:code>/", errors.ErrorView.as_view()),
    path("schema/", docs.SchemaView.as_view(), name="schema"),
    path("docs/", docs.DocsView.as_view(), name="api-docs"),
    re_path("", without_slash),  # anything, also what no path converter takes
]
