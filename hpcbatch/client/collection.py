"""What the collections of a client share: lists that notebooks show as tables, and Azure ML's waiting objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from hpcbatch.client import html
from hpcbatch.client.entity import Entity
from hpcbatch.client.job import Job
from hpcbatch.operations.workspace import Workspace

T = TypeVar("T")
E = TypeVar("E", bound=Entity)

_COLUMNS = {
    "BatchEndpoint": ("name", "defaults.deployment_name", "description"),
    "ModelBatchDeployment": ("name", "endpoint_name", "model", "compute", "description"),
    "Compute": ("name", "type", "tier", "partition", "max_instances"),
    "Job": ("name", "status", "endpoint", "deployment", "items", "creation_context.created_at"),
}
_ASSET_COLUMNS = ("name", "version", "type", "path", "description")


class Listing(list[T]):
    """A list that notebooks show as a table."""

    def _repr_html_(self) -> str:
        kind = type(self[0]).__name__ if self else ""
        columns = _COLUMNS.get(kind, _ASSET_COLUMNS)
        rows = [dict(html.flat(one.shown)) if isinstance(one, Entity | Job) else {} for one in self]
        used = [column for column in columns if any(column in row for row in rows)]
        return html.table([_heading(one) for one in used], [[row.get(one) for one in used] for row in rows])


def _heading(column: str) -> str:
    return column.rpartition(".")[2].replace("_", " ")


class Finished(Generic[T]):
    """What Azure ML's `begin_...` methods return. Here the work is done when they return; `result()` is its result."""

    def __init__(self, result: T) -> None:
        self._result = result

    def result(self, timeout: float | None = None) -> T:  # noqa: ARG002  # Azure ML's signature; nothing to wait for
        """The result."""
        return self._result

    def wait(self, timeout: float | None = None) -> None:
        """Return."""

    def done(self) -> bool:
        """True."""
        return True

    def status(self) -> str:
        """`Succeeded`; what fails raises from the `begin_...` method itself."""
        return "Succeeded"


class Collection:
    """One kind of thing in a workspace."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws

    def _entities(self, kind: type[E], shown: Iterable[dict[str, Any]]) -> Listing[E]:
        return Listing(kind.from_workspace(self._ws, one) for one in shown)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {str(self._ws.root)!r}>"
