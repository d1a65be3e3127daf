"""References to assets, as Azure ML spells them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcbatch.errors import SpecError

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
_SHORT = re.compile(rf"(?P<name>{_NAME})(?::(?P<version>{_NAME})|@(?P<label>{_NAME}))?\Z")
_LONG = re.compile(
    rf"(?:azureml:)?/{{1,2}}(?:.*/)?(?:models|environments|data|components|codes|computes)/(?P<name>{_NAME})"
    rf"(?:/versions/(?P<version>{_NAME})|/labels/(?P<label>{_NAME}))?\Z"
)
_REGISTRY = re.compile(rf"azureml://registries/(?P<registry>{_NAME})/")

FORMS = "azureml:<name>:<version>, azureml:<name>@latest, azureml:<name>, <name> or azureml://registries/<registry>/..."


@dataclass(frozen=True)
class AssetRef:
    """A name with a version, a label, or neither (= the newest); `registry` is set for `azureml://registries/...`."""

    name: str
    version: str | None = None
    label: str | None = None
    registry: str | None = None

    def __str__(self) -> str:
        tail = f":{self.version}" if self.version else f"@{self.label}" if self.label else ""
        return f"azureml:{self.name}{tail}"


def parse_ref(text: str, *, field: str = "") -> AssetRef:
    """The reference in *text*. Raises SpecError naming *field* and the forms that exist."""
    short = _SHORT.match(text.removeprefix("azureml:"))
    long = None if short else _LONG.match(text)
    match = short or long
    if match is None:
        raise SpecError(
            f"{field or 'the reference'}: {text!r} is not a reference to an asset.",
            hint=f"Write one of: {FORMS}.",
            field=field,
            found=text,
            allowed=FORMS,
        )
    registry = _REGISTRY.match(text)
    return AssetRef(match["name"], match["version"], match["label"], registry["registry"] if registry else None)


def is_ref(text: str) -> bool:
    """Whether *text* says explicitly that it refers to an asset rather than to a path."""
    return text.startswith(("azureml:", "/subscriptions/"))


def is_data_asset(text: str) -> bool:
    """Whether *text* refers to a registered data asset, of this workspace or in a long form, and not to an address."""
    return is_ref(text) and "/datastores/" not in text and ("://" not in text or _LONG.match(text) is not None)
