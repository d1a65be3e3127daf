"""Verbs of `az ml` that have no place here, each with what to do instead: docs/explanation/azure-ml-mapping.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_REGISTRY = "There are no registries above a workspace: hpcbatch configure --defaults registries.NAME=FOLDER"
_PARTITION = "A partition is always there, and costs nothing while it is idle: hpcbatch compute show --name NAME"
_SLURM = "Say which partition it is: hpcbatch compute create --name NAME --type slurm --set partition=PARTITION"
_DATASTORE = "Data lie in folders, which are named as they are: hpcbatch data create --name NAME --path FOLDER"
_ONLINE = "Only batch endpoints are served here: hpcbatch batch-endpoint --help"
NOT_HERE: Mapping[str, str] = {
    "job show-services": "A job has no interactive services; its logs: hpcbatch job stream --name NAME",
    "job connect-ssh": "On a cluster: srun --jobid=ID --overlap --pty bash",
    "model share": _NO_REGISTRY,
    "model package": "There are no images to build; the Python that scores: hpcbatch environment --help",
    "data share": _NO_REGISTRY,
    "data mount": "A cluster's file systems are mounted; where the data are: hpcbatch data show --name NAME",
    "data import": "Nothing is copied into a workspace; name the data where they are: hpcbatch data create --help",
    "environment share": _NO_REGISTRY,
    "compute start": _PARTITION,
    "compute stop": _PARTITION,
    "compute restart": _PARTITION,
    "compute attach": _SLURM,
    "compute detach": "Forget it: hpcbatch compute delete --name NAME",
    "datastore": _DATASTORE,
    "online-endpoint": _ONLINE,
    "online-deployment": _ONLINE,
    "registry": _NO_REGISTRY,
    "workspace": "A workspace is a folder, made when it is first used: hpcbatch configure --defaults workspace=FOLDER",
}


def instead_of(*words: str) -> str:
    """What to do here instead of `az ml` *words*, which end in a command; empty if az has no such command either."""
    return NOT_HERE.get(" ".join(words[:2])) or NOT_HERE.get(words[0], "")
