"""`hpcbatch environment`: create, map, and what all assets have."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli import render
from hpcbatch.cli.assets import VERSION, asset_verbs
from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option, option
from hpcbatch.errors import SpecError

_CREATE_FLAGS = ("name", "version", "python", "image", "conda_file", "description", "os_type")


def create(call: Call) -> Any:
    """Register a version of the environment."""
    from hpcbatch.operations.assets import create_environment

    args = call.args
    flags = {key: getattr(args, key) for key in _CREATE_FLAGS}
    return create_environment(call.workspace, file=args.file, sets=args.sets, **flags)


def map_glob(call: Call) -> Any:
    """Say which Python stands for the environments that match; without a pattern, list what was said."""
    from hpcbatch.operations.assets import list_environment_maps, map_environment

    args = call.args
    if args.glob is None and args.python is None:
        return list_environment_maps(call.workspace)
    if args.glob is None or args.python is None:
        raise SpecError(
            "A mapping has two sides: a pattern and --python.",
            hint="For example: hpcbatch environment map '*sklearn*' --python /shared/venvs/sklearn",
        )
    return map_environment(call.workspace, args.glob, args.python)


def build(call: Call) -> Any:
    """Build now what an invocation of the deployment would build first."""
    from hpcbatch.operations.resolve import build_environment

    args = call.args
    return build_environment(call.workspace, args.endpoint_name, args.deployment_name, render.note)


_PYTHON = option("--python", metavar="PATH", help="An interpreter, or the venv or conda prefix around its bin/python.")

VERBS = (
    Verb(
        "create",
        "Register an environment.",
        create,
        "hpcbatch environment create -n heart --python /shared/venvs/heart\n"
        "hpcbatch environment create -f environment.yml",
        (
            name_option("environment", required=False),
            VERSION,
            _PYTHON,
            option("--image", "-i", metavar="IMAGE", help="Container image, as in Azure ML."),
            option("--conda-file", "-c", metavar="PATH", help="Conda specification, as in Azure ML."),
            option("--os-type", metavar="OS", help="Accepted as in az."),
            option("--description", "-d", metavar="TEXT", help="For people."),
            file_option("environment"),
            SET,
        ),
    ),
    *asset_verbs(
        "environment",
        "heart",
        (("Name", "name"), ("Version", "version"), ("Python", "python"), ("Image", "image")),
        plural="environments",
        query="python",
    ),
    Verb(
        "build",
        "Build the environment of a deployment now, and not at its first invocation.",
        build,
        "hpcbatch environment build --endpoint-name heart-batch",
        (
            option("--endpoint-name", "-e", required=True, metavar="NAME", help="Name of the batch endpoint."),
            option("--deployment-name", "-d", metavar="NAME", help="The deployment. Default: the endpoint's default."),
        ),
        details="Only what has a conda file (or is an MLflow model), no python and no mapping\n"
        "is built, with pip, once for each content. Set PIP_INDEX_URL, PIP_FIND_LINKS\n"
        "and the like as for pip.",
    ),
    Verb(
        "map",
        "Say which Python stands for the environments that Azure's files name.",
        map_glob,
        "hpcbatch environment map '*sklearn*' --python /shared/venvs/sklearn\nhpcbatch environment map",
        (
            option("glob", nargs="?", metavar="PATTERN", help="For example '*sklearn*'; '*' catches all."),
            _PYTHON,
        ),
        details="The pattern is matched against the environment's name, its image and,\n"
        "for a model without one, mlflow:<model name>. The first match wins.\n"
        "Without arguments it lists the mappings in their order.",
        columns=(("Pattern", "glob"), ("Python", "python")),
    ),
)
