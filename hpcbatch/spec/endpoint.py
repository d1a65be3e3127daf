"""Batch endpoints as users write them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hpcbatch.spec.base import Document, FreeMapping, RouteName, TextMapping, lowered


class Defaults(Document):
    """Where an invocation goes that names no deployment."""

    deployment_name: RouteName | None = None


class BatchEndpoint(Document):
    """A stable name under which deployments are invoked."""

    name: RouteName
    description: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)
    auth_mode: Annotated[Literal["aad_token", "key", "aml_token"], BeforeValidator(lowered)] = "aad_token"
    defaults: Defaults | None = None
    identity: FreeMapping = Field(default_factory=dict)
    location: str | None = None
    kind: str | None = None
    scoring_uri: str | None = None
    openapi_uri: str | None = None
