"""The verbs that models, data and environments have in common: show, list, update, archive, restore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcbatch.cli.formats import Columns
from hpcbatch.cli.grammar import (
    ARCHIVED,
    GENERIC_UPDATE,
    LIST_LIMITS,
    Call,
    Verb,
    archived_of,
    edit_of,
    limited,
    name_option,
    option,
)

if TYPE_CHECKING:
    from hpcbatch.spec.refs import AssetRef

VERSION = option("--version", "-v", metavar="VERSION", help="Default: one more than the highest.")
SHOWN_VERSION = (
    option("--version", "-v", metavar="VERSION", help="Default: the latest."),
    option("--label", "-l", metavar="LABEL", choices=("latest",), help="latest: the one created last."),
)


def ref_of(call: Call) -> AssetRef:
    """The asset that `--name`, `--version` and `--label` name."""
    from hpcbatch.spec.refs import AssetRef

    return AssetRef(call.args.name, call.args.version, call.args.label)


@dataclass(frozen=True)
class _Handlers:
    """The handlers of assets of one kind."""

    kind: str

    def show(self, call: Call) -> Any:
        """One version, by default the latest."""
        from hpcbatch.operations.versions import find_asset

        return find_asset(call.workspace, self.kind, ref_of(call))

    def list_all(self, call: Call) -> Any:
        """The newest version of each, or the versions of one."""
        from hpcbatch.operations.versions import list_assets

        return limited(call, list_assets(call.workspace, self.kind, call.args.name, archived_of(call)))

    def update(self, call: Call) -> Any:
        """Change what is said about a version."""
        from hpcbatch.operations.versions import update_asset

        return update_asset(call.workspace, self.kind, ref_of(call), edit_of(call))

    def archive(self, call: Call) -> None:
        """Leave it out of lists."""
        from hpcbatch.operations.versions import archive_asset

        archive_asset(call.workspace, self.kind, ref_of(call))

    def restore(self, call: Call) -> None:
        """Put it back into lists."""
        from hpcbatch.operations.versions import archive_asset

        archive_asset(call.workspace, self.kind, ref_of(call), archived=False)


def asset_verbs(kind: str, name: str, columns: Columns, *, plural: str, query: str) -> tuple[Verb, ...]:
    """The verbs of assets of *kind*; *name* is one in the examples, *query* what a script asks of one."""
    handlers, start = _Handlers(kind), f"hpcbatch {kind}"
    one = (name_option(kind), *SHOWN_VERSION)
    every = (
        name_option(kind),
        option("--version", "-v", metavar="VERSION", help="Default: every version."),
        SHOWN_VERSION[1],
    )
    lists = (name_option(kind, required=False), *LIST_LIMITS, *ARCHIVED)
    return (
        Verb(
            "show",
            f"Show a version of {plural}.",
            handlers.show,
            f"{start} show --name {name} --label latest --query {query} -o tsv",
            one,
        ),
        Verb(
            "list",
            f"List {plural}, or the versions of one.",
            handlers.list_all,
            f"{start} list -o table\n{start} list --name {name} --query '[].version' -o tsv",
            lists,
            columns=columns,
        ),
        Verb(
            "update",
            "Change description, tags or properties of a version. What it holds never changes.",
            handlers.update,
            f"{start} update --name {name} --version 1 --set tags.stage=production description='Since May'",
            (*one, *GENERIC_UPDATE),
        ),
        Verb("archive", "Leave a version, or all of them, out of lists. References to it go on working.",
             handlers.archive, f"{start} archive --name {name} --version 1", every),
        Verb("restore", "Put an archived version, or all of them, back into lists.",
             handlers.restore, f"{start} restore --name {name}", every),
    )  # fmt: skip
