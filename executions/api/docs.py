"""The schema and its browsable page; the page's scripts come from this server, so it works without the internet."""

from __future__ import annotations

from typing import Any

from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response

from executions.api.schema import SPECTACULAR


class SchemaView(SpectacularAPIView):
    """OpenAPI, as YAML or, for whoever asks for it, JSON."""

    authentication_classes = ()
    permission_classes = ()
    custom_settings = SPECTACULAR


class DocsView(SpectacularSwaggerSplitView):
    """The schema to read and to try out. Its script is an address of its own (`?script=`), not a part of the page."""

    authentication_classes = ()
    permission_classes = ()
    url_name = "schema"

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with patched_settings(SPECTACULAR):
            page: Response = super().get(request, *args, **kwargs)
        return page
