"""`hpcbatch model`: create, show, list."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option, option, version_options


def create(call: Call) -> Any:
    """Register a version of the model: its bytes are kept as they are now."""
    from hpcbatch.operations.assets import create_model

    args = call.args
    sets = {"name": args.name, "version": args.version, "path": args.path, "type": args.type}
    return create_model(call.workspace, file=args.file, sets=args.sets, **sets)


def show(call: Call) -> Any:
    """One version of the model, by default the latest."""
    from hpcbatch.operations.assets import show_model

    return show_model(call.workspace, call.args.name, version=call.args.version, label=call.args.label)


def list_all(call: Call) -> Any:
    """Every model, or the versions of one."""
    from hpcbatch.operations.assets import list_models

    return list_models(call.workspace, name=call.args.name)


VERBS = (
    Verb(
        "create",
        "Register a model; a copy is kept, so later changes change nothing.",
        create,
        "hpcbatch model create --name heart --path ./model --type mlflow_model\nhpcbatch model create -f model.yml",
        (
            name_option("model", required=False),
            option("--version", "-v", metavar="VERSION", help="Default: one more than the highest."),
            option("--path", "-p", metavar="PATH", help="File or folder of the model."),
            option("--type", "-t", metavar="TYPE", help="custom_model (default), mlflow_model or triton_model."),
            file_option("model"),
            SET,
        ),
    ),
    Verb(
        "show",
        "Show a version of a model.",
        show,
        "hpcbatch model show --name heart --label latest --query version -o tsv",
        (name_option("model"), *version_options()),
    ),
    Verb(
        "list",
        "List models, or the versions of one.",
        list_all,
        "hpcbatch model list -o table",
        (name_option("model", required=False),),
        columns=(("Name", "name"), ("Version", "version"), ("Type", "type"), ("Description", "description")),
    ),
)
