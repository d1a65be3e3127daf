"""`hpcbatch environment`: create, show, list, map."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option, option, version_options
from hpcbatch.errors import SpecError


def create(call: Call) -> Any:
    """Register a version of the environment."""
    from hpcbatch.operations.assets import create_environment

    args = call.args
    flags = {key: getattr(args, key) for key in ("name", "version", "python", "image", "conda_file")}
    return create_environment(call.workspace, file=args.file, sets=args.sets, **flags)


def show(call: Call) -> Any:
    """One version of the environment, by default the latest."""
    from hpcbatch.operations.assets import show_environment

    return show_environment(call.workspace, call.args.name, version=call.args.version, label=call.args.label)


def list_all(call: Call) -> Any:
    """Every environment, or the versions of one."""
    from hpcbatch.operations.assets import list_environments

    return list_environments(call.workspace, name=call.args.name)


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
            option("--version", "-v", metavar="VERSION", help="Default: one more than the highest."),
            _PYTHON,
            option("--image", "-i", metavar="IMAGE", help="Container image, as in Azure ML."),
            option("--conda-file", "-c", metavar="PATH", help="Conda specification, as in Azure ML."),
            file_option("environment"),
            SET,
        ),
    ),
    Verb(
        "show",
        "Show a version of an environment.",
        show,
        "hpcbatch environment show -n heart --label latest",
        (name_option("environment"), *version_options()),
    ),
    Verb(
        "list",
        "List environments, or the versions of one.",
        list_all,
        "hpcbatch environment list -o table",
        (name_option("environment", required=False),),
        columns=(("Name", "name"), ("Version", "version"), ("Python", "python"), ("Image", "image")),
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
