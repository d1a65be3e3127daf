"""`hpcbatch model`: create, download, and what all assets have."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.assets import SHOWN_VERSION, VERSION, asset_verbs, ref_of
from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option, option


def create(call: Call) -> Any:
    """Register a version of the model: its bytes are kept as they are now."""
    from hpcbatch.operations.assets import create_model

    args = call.args
    flags = {key: getattr(args, key) for key in ("name", "version", "path", "type", "stage", "description")}
    return create_model(call.workspace, file=args.file, sets=args.sets, **flags)


def download(call: Call) -> Any:
    """Copy the model out of the workspace."""
    from hpcbatch.operations.assets import download_model

    return download_model(call.workspace, ref_of(call), call.args.download_path)


VERBS = (
    Verb(
        "create",
        "Register a model; a copy is kept, so later changes change nothing.",
        create,
        "hpcbatch model create --name heart --path ./model --type mlflow_model\nhpcbatch model create -f model.yml",
        (
            name_option("model", required=False),
            VERSION,
            option("--path", "-p", metavar="PATH", help="File or folder of the model."),
            option("--type", "-t", metavar="TYPE", help="custom_model (default), mlflow_model or triton_model."),
            option("--stage", "-s", metavar="STAGE", help="Kept and shown, as in az."),
            option("--description", "-d", metavar="TEXT", help="For people."),
            file_option("model"),
            SET,
        ),
    ),
    *asset_verbs(
        "model",
        "heart",
        (("Name", "name"), ("Version", "version"), ("Type", "type"), ("Description", "description")),
        plural="models",
        query="version",
    ),
    Verb(
        "download",
        "Copy a model to DIR/NAME/.",
        download,
        "hpcbatch model download --name heart --version 1 --download-path ./copies",
        (
            name_option("model"),
            *SHOWN_VERSION,
            option("--download-path", "-p", default=".", metavar="DIR", help="Default: the current folder."),
        ),
    ),
)
