"""Addresses of the pages, under /executions/."""

from django.urls import path

from executions.pages import actions, assets, bound_files, host_keys, submitting, views

app_name = "executions"

urlpatterns = [
    path("", views.executions, name="list"),
    path("new/", submitting.new, name="new"),
    path("assets/", assets.assets, name="assets"),
    path("assets/import/", assets.import_assets, name="asset_import"),
    path("assets/<int:asset_id>/", assets.asset, name="asset"),
    path("assets/<int:asset_id>/check/", assets.check, name="asset_check"),
    path("assets/<int:asset_id>/host-key/", host_keys.host_key, name="asset_host_key"),
    path("<int:execution_id>/", views.execution, name="detail"),
    path("<int:execution_id>/fragments/", views.fragments, name="fragments"),
    path("<int:execution_id>/hosts/", views.hosts, name="hosts"),
    path("<int:execution_id>/feed/", views.feed, name="feed"),
    path("<int:execution_id>/log/", views.log, name="log"),
    path("<int:execution_id>/files/", bound_files.files, name="files"),
    path("<int:execution_id>/cancel/", actions.cancel, name="cancel"),
    path("<int:execution_id>/approve/", actions.approve, name="approve"),
    path("<int:execution_id>/reject/", actions.reject, name="reject"),
    path("<int:execution_id>/withdraw-approval/", actions.withdraw_approval, name="withdraw_approval"),
    path("<int:execution_id>/retry/", actions.retry, name="retry"),
    path("<int:execution_id>/resolve/", actions.resolve, name="resolve"),
    path("<int:execution_id>/dead-letter/", actions.dead_letter, name="dead_letter"),
]
