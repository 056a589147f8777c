"""The inventory: assets and groups of them. Everybody with a role reads; operators change."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from executions.api import cursors
from executions.api.answers import answer
from executions.api.asset_fields import NULLABLE, as_stored
from executions.api.base import ApiView, Operates, caller
from executions.api.problems import ApiProblem
from executions.api.reading import BIGGEST_ID, Query, read_body
from executions.api.schema import PAGING, call, parameter
from executions.asset_credentials import forbidden_credentials, not_allowed
from executions.connections import connection_names
from executions.models import Asset, AssetGroup, Health, StepTarget
from executions.states import FINAL_EXECUTION
from safety import audit
from safety.models import User
from safety.rbac import roles_of, visible_assets
from safety.scopes import Scope

OBSERVED = (
    "source", "missing_since_at", "last_seen_at", "health", "health_code", "health_message", "checked_at",
    "response_ms",
)  # fmt: skip
READ_ONLY = ("id", "created_at", "updated_at", *OBSERVED)
WRITABLE = (
    "name", "hostname", "ip_address", "description", "connection", "port", "username", "domain", "credential",
    "host_key", "device_type", "os_type", "os_version", "status", "environment", "criticality", "service_type",
    "is_secure", "credential_type", "secondary_service_type", "secondary_port", "additional_services", "owner",
    "support_contact", "tags", "is_active", "external_id",
)  # fmt: skip
MOST_MEMBERS = 10_000


class OperatorsChange(Operates):
    """Reading is for everybody who is signed in; changing for operators."""

    message = "Changing the inventory is for the operator and admin roles."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in SAFE_METHODS or super().has_permission(request, view)


class InventoryView(ApiView):
    permission_classes = (IsAuthenticated, OperatorsChange)


class Strict(serializers.Serializer[Any]):
    """Refuses fields that it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = set(data) - set(self.fields)
        if unknown:
            message = "is not a field of it; nothing that was sent is ever ignored silently."
            raise serializers.ValidationError({str(name)[:100]: [message] for name in sorted(map(str, unknown))})
        return super().to_internal_value(data)


class AssetSerializer(Strict, serializers.ModelSerializer[Asset]):
    """An asset; `groups` are names, `credential` is the path of a secret. What is null counts as not said.

    `connection` may be left out where `service_type` implies it: ssh, winrm, http, https.
    """

    groups = serializers.ListField(
        child=serializers.CharField(max_length=120), required=False, max_length=100, allow_null=True
    )
    port = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=65535)
    secondary_port = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=65535)
    additional_services = serializers.ListField(
        child=serializers.DictField(), required=False, max_length=100, allow_null=True
    )

    health = serializers.CharField(read_only=True, help_text=f"{', '.join(Health.values)}; empty: never checked.")
    is_stale = serializers.BooleanField(read_only=True)

    class Meta:
        model = Asset
        fields = (*READ_ONLY, *WRITABLE, "groups", "is_stale")
        read_only_fields = READ_ONLY
        extra_kwargs = {
            **{name: {"allow_null": True, "required": False} for name in NULLABLE},
            **{name: {"allow_null": True, "max_length": 20_000} for name in ("description", "host_key")},
            "connection": {"required": False},
        }

    def to_internal_value(self, data: Any) -> Any:
        # Asset services have the field under either name.
        if "secondary_service_port" in data and "secondary_port" not in data:
            data = {("secondary_port" if name == "secondary_service_port" else name): data[name] for name in data}
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        fields, faults = as_stored(attrs, is_whole=not self.partial)
        if faults:
            raise serializers.ValidationError(faults)
        return fields


class AssetPatchSerializer(AssetSerializer):
    """What is to be changed of an asset."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, partial=True, **kwargs)


class AssetPageSerializer(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = AssetSerializer(many=True)


@extend_schema_field(OpenApiTypes.INT)
class IdField(serializers.IntegerField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=BIGGEST_ID, **kwargs)


class GroupSerializer(Strict):
    """A group; `assets` are ids."""

    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(max_length=120)
    assets = serializers.ListField(child=IdField(), required=False, max_length=MOST_MEMBERS)


class GroupPatchSerializer(Strict):
    """What is to be changed of a group."""

    name = serializers.CharField(max_length=120, required=False)
    assets = serializers.ListField(child=IdField(), required=False, max_length=MOST_MEMBERS)


class GroupPageSerializer(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = GroupSerializer(many=True)


EXAMPLE_ASSET = {
    "name": "web-1",
    "hostname": "web-1.example.org",
    "environment": "production",
    "connection": "ssh",
    "groups": ["web"],
    "tags": ["nginx"],
    "credential": "ssh/web",
}


def asset_shape(row: Asset) -> dict[str, Any]:
    """One asset. Wants its groups prefetched, and to say whether it is stale."""
    shown: dict[str, Any] = {name: getattr(row, name) for name in (*READ_ONLY, *WRITABLE, "is_stale")}
    shown["groups"] = sorted(group.name for group in row.groups.all())
    return shown


def _assets(by: User) -> QuerySet[Asset]:
    return Asset.objects.filter(visible_assets(by)).saying_stale().prefetch_related("groups")


def asset_of(request: Request, asset_id: int) -> Asset:
    found = _assets(caller(request)).filter(pk=asset_id).first()
    if found is None:
        raise ApiProblem("not_found", f"There is no asset {asset_id}.")
    return found


def _record(action: str, row: Asset | AssetGroup, by: User, **data: object) -> None:
    """Write into the audit what was done with an asset or group: the names of the fields, not what is in them."""
    kind = "asset" if isinstance(row, Asset) else "asset_group"
    audit.record(action, by=by, object_type=kind, object_id=row.pk, object_name=row.name, data=data)


def _groups_named(names: list[str], by: User) -> list[AssetGroup]:
    """Return the groups with these names, making those that are not there."""
    for name in sorted(set(names)):
        AssetGroup.objects.get_or_create(tenant_id=by.tenant_id, name=name)
    return list(AssetGroup.objects.filter(tenant_id=by.tenant_id, name__in=names))


def _save_asset(given: dict[str, Any], by: User, row: Asset | None) -> Asset:
    groups = given.pop("groups", None)
    is_new = row is None
    try:
        with transaction.atomic():
            if row is not None:
                # As it is now, and held: nobody gives it a credential while its address is changed here.
                row = Asset.objects.select_for_update(no_key=True).get(pk=row.pk)
            if path := forbidden_credentials(by, [(row, given)])[0]:
                raise ApiProblem("forbidden", not_allowed(path))
            if row is None:
                row = Asset.objects.create(tenant_id=by.tenant_id, **given)
            elif given:
                for name, value in given.items():
                    setattr(row, name, value)
                row.save(update_fields=[*given, "updated_at"])
            if groups is not None:
                row.groups.set(_groups_named(groups, by))
            fields = [*given, *(["groups"] if groups is not None else [])]
            _record("asset.create" if is_new else "asset.change", row, by, fields=sorted(fields))
    except IntegrityError as fault:
        if "asset_external_id_once_per_tenant" in str(fault):
            raise ApiProblem("already_exists", "Another asset has this external_id already.") from None
        raise ApiProblem("already_exists", f"There is already an asset {given.get('name', '')}.") from None
    return _assets(by).get(pk=row.pk)


class AssetsView(InventoryView):
    """The inventory."""

    @call(
        "assets_list",
        "List assets, newest first",
        scope=Scope.READ,
        tag="inventory",
        gives=AssetPageSerializer,
        refuses=("invalid_parameter",),
        parameters=(
            parameter("q", "A part of name, hostname, description or address."),
            parameter("environment", "One or more, separated by commas."),
            parameter("connection", "One or more, separated by commas.", enum=connection_names()),
            parameter("tag", "Carries this tag; given several times, all of them."),
            parameter("group", "Is in this group."),
            parameter("is_active", "Only these.", enum=("true", "false")),
            parameter("health", "What the last check found; `none`: never checked.", enum=(*Health.values, "none")),
            parameter("stale", "Only these: not heard of for ASSET_STALE_DAYS.", enum=("true", "false")),
            parameter("source", "Synced from this source."),
            *PAGING,
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        filters = ("q", "environment", "connection", "tag", "group", "is_active", "health", "stale", "source")
        names = (*filters, *cursors.PARAMETERS)
        query = Query(request, names)
        rows = _assets(caller(request))
        if words := query.text("q"):
            rows = rows.filter(
                Q(name__icontains=words)
                | Q(hostname__icontains=words)
                | Q(description__icontains=words)
                | Q(ip_address__startswith=words)
            )
        if environments := query.words("environment"):
            rows = rows.filter(environment__in=environments)
        if connections := query.choices("connection", connection_names()):
            rows = rows.filter(connection__in=connections)
        if tags := query.words("tag"):
            rows = rows.filter(tags__contains=tags)
        if group := query.text("group"):
            rows = rows.filter(groups__name=group)
        if (active := query.flag("is_active")) is not None:
            rows = rows.filter(is_active=active)
        if found := query.choices("health", (*Health.values, "none")):
            rows = rows.filter(health__in=["" if word == "none" else word for word in found])
        if (stale := query.flag("stale")) is not None:
            rows = rows.filter(Q(is_stale=stale))
        if source := query.text("source"):
            rows = rows.filter(source=source)
        return cursors.page(request, query, rows, asset_shape)

    @call(
        "assets_create",
        "Add an asset",
        scope=Scope.OPERATE,
        tag="inventory",
        description="Groups that are not there are made. `credential` is the path of a secret, never the secret.",
        takes=AssetSerializer,
        gives=AssetSerializer,
        status=201,
        refuses=("forbidden", "already_exists"),
        example=EXAMPLE_ASSET,
    )
    def post(self, request: Request) -> HttpResponse:
        given = AssetSerializer(data=read_body(request))
        given.is_valid(raise_exception=True)
        row = _save_asset(dict(given.validated_data), caller(request), None)
        return answer(asset_shape(row), 201, {"Location": f"/api/v1/assets/{row.pk}/"})


class AssetView(InventoryView):
    """One asset."""

    @call(
        "assets_read", "Read an asset", scope=Scope.READ, tag="inventory", gives=AssetSerializer, refuses=("not_found",)
    )
    def get(self, request: Request, asset_id: int) -> HttpResponse:
        Query(request, ())
        return answer(asset_shape(asset_of(request, asset_id)))

    @call(
        "assets_change",
        "Change some fields of an asset",
        scope=Scope.OPERATE,
        tag="inventory",
        description="Executions that were taken in before keep the target as it was approved.",
        takes=AssetPatchSerializer,
        gives=AssetSerializer,
        refuses=("not_found", "forbidden", "already_exists"),
        example={"environment": "staging"},
    )
    def patch(self, request: Request, asset_id: int) -> HttpResponse:
        row = asset_of(request, asset_id)
        given = AssetPatchSerializer(row, data=read_body(request))
        given.is_valid(raise_exception=True)
        return answer(asset_shape(_save_asset(dict(given.validated_data), caller(request), row)))

    @call(
        "assets_replace",
        "Replace an asset's fields",
        scope=Scope.OPERATE,
        tag="inventory",
        takes=AssetSerializer,
        gives=AssetSerializer,
        refuses=("not_found", "forbidden", "already_exists"),
        example=EXAMPLE_ASSET,
    )
    def put(self, request: Request, asset_id: int) -> HttpResponse:
        row = asset_of(request, asset_id)
        given = AssetSerializer(data=read_body(request))
        given.is_valid(raise_exception=True)
        blank = Asset()
        absent = {name: getattr(blank, name) for name in WRITABLE}
        values = {**absent, "groups": [], **given.validated_data}
        return answer(asset_shape(_save_asset(values, caller(request), row)))

    @call(
        "assets_delete",
        "Remove an asset; past executions keep its name",
        scope=Scope.OPERATE,
        tag="inventory",
        status=204,
        refuses=("not_found", "forbidden", "asset_in_use"),
    )
    def delete(self, request: Request, asset_id: int) -> HttpResponse:
        row = asset_of(request, asset_id)
        unfinished = StepTarget.objects.filter(asset=row).exclude(execution__status__in=FINAL_EXECUTION)
        user = unfinished.values_list("execution_id", flat=True).first()
        if user is not None:
            raise ApiProblem("asset_in_use", f"Execution {user} is to run on {row.name}.")
        with transaction.atomic():
            _record("asset.delete", row, caller(request))
            row.delete()
        return HttpResponse(status=204)


def group_shape(row: AssetGroup) -> dict[str, Any]:
    """One group. Wants its assets prefetched."""
    return {"id": row.pk, "name": row.name, "assets": sorted(asset.pk for asset in row.assets.all())}


def _groups(by: User) -> QuerySet[AssetGroup]:
    """The groups with an asset that `by` may see, each with those alone; empty ones are for whoever has a role."""
    seen = Asset.objects.filter(visible_assets(by))
    empty = Q(assets=None) if roles_of(by) else Q(pk__in=[])
    rows = AssetGroup.objects.filter(Q(assets__in=seen.values("pk")) | empty, tenant_id=by.tenant_id)
    return rows.distinct().prefetch_related(Prefetch("assets", queryset=seen))


def _group(request: Request, group_id: int) -> AssetGroup:
    found = _groups(caller(request)).filter(pk=group_id).first()
    if found is None:
        raise ApiProblem("not_found", f"There is no asset group {group_id}.")
    return found


def _members(ids: list[int], by: User) -> list[Asset]:
    """Return the assets with these ids; raises ValidationError naming those that the caller cannot see."""
    found = {asset.pk: asset for asset in Asset.objects.filter(visible_assets(by), pk__in=ids)}
    missing = sorted(set(ids) - set(found))
    if missing:
        named = ", ".join(map(str, missing[:10]))
        raise serializers.ValidationError({"assets": [f"There is no asset {named}."]})
    return list(found.values())


def _save_group(given: dict[str, Any], by: User, row: AssetGroup | None) -> AssetGroup:
    members = _members(given["assets"], by) if "assets" in given else None
    is_new = row is None
    name: str = given.get("name", "")
    try:
        with transaction.atomic():
            if row is None:
                row = AssetGroup.objects.create(tenant_id=by.tenant_id, name=name)
            elif name:
                row.name = name
                row.save(update_fields=["name"])
            if members is not None:
                row.assets.set(members)
            changes = {"assets": sorted(asset.pk for asset in members)} if members is not None else {}
            _record("asset_group.create" if is_new else "asset_group.change", row, by, **changes)
    except IntegrityError:
        raise ApiProblem("already_exists", f"There is already a group {name}.") from None
    return AssetGroup.objects.prefetch_related("assets").get(pk=row.pk)


class GroupsView(InventoryView):
    """The groups of assets."""

    @call(
        "asset_groups_list",
        "List asset groups, newest first",
        scope=Scope.READ,
        tag="inventory",
        gives=GroupPageSerializer,
        refuses=("invalid_parameter",),
        parameters=(parameter("q", "A part of the name."), *PAGING),
    )
    def get(self, request: Request) -> HttpResponse:
        query = Query(request, ("q", *cursors.PARAMETERS))
        rows = _groups(caller(request))
        if words := query.text("q"):
            rows = rows.filter(name__icontains=words)
        return cursors.page(request, query, rows, group_shape)

    @call(
        "asset_groups_create",
        "Make an asset group",
        scope=Scope.OPERATE,
        tag="inventory",
        takes=GroupSerializer,
        gives=GroupSerializer,
        status=201,
        refuses=("forbidden", "already_exists"),
        example={"name": "web", "assets": [1, 2]},
    )
    def post(self, request: Request) -> HttpResponse:
        given = GroupSerializer(data=read_body(request))
        given.is_valid(raise_exception=True)
        row = _save_group(dict(given.validated_data), caller(request), None)
        return answer(group_shape(row), 201, {"Location": f"/api/v1/asset-groups/{row.pk}/"})


class GroupView(InventoryView):
    """One group."""

    @call(
        "asset_groups_read",
        "Read an asset group",
        scope=Scope.READ,
        tag="inventory",
        gives=GroupSerializer,
        refuses=("not_found",),
    )
    def get(self, request: Request, group_id: int) -> HttpResponse:
        Query(request, ())
        return answer(group_shape(_group(request, group_id)))

    @call(
        "asset_groups_change",
        "Rename an asset group, or say which assets are in it",
        scope=Scope.OPERATE,
        tag="inventory",
        takes=GroupPatchSerializer,
        gives=GroupSerializer,
        refuses=("not_found", "forbidden", "already_exists"),
        example={"name": "web", "assets": [1, 2, 3]},
    )
    def patch(self, request: Request, group_id: int) -> HttpResponse:
        row = _group(request, group_id)
        given = GroupPatchSerializer(data=read_body(request))
        given.is_valid(raise_exception=True)
        return answer(group_shape(_save_group(dict(given.validated_data), caller(request), row)))

    @call(
        "asset_groups_delete",
        "Remove an asset group; its assets stay",
        scope=Scope.OPERATE,
        tag="inventory",
        status=204,
        refuses=("not_found", "forbidden"),
    )
    def delete(self, request: Request, group_id: int) -> HttpResponse:
        row = _group(request, group_id)
        with transaction.atomic():
            _record("asset_group.delete", row, caller(request))
            row.delete()
        return HttpResponse(status=204)
