"""Batch endpoints and deployments for Slurm clusters.

Public names are loaded when first used: a thousand array tasks import this package at once from one shared filesystem.
Their types are in `__init__.pyi`.
"""

import importlib as _importlib
import sys as _sys

__version__ = "0.1.0"

_ERRORS = ("Conflict", "HpcBatchError", "JobError", "NotFound", "SpecError")
__all__ = [
    "BatchClient",
    "BatchEndpoint",
    "BatchRetrySettings",
    "CodeConfiguration",
    "Compute",
    "Conflict",
    "Data",
    "Environment",
    "HpcBatchError",
    "Input",
    "Job",
    "JobError",
    "Model",
    "ModelBatchDeployment",
    "ModelBatchDeploymentSettings",
    "NotFound",
    "Output",
    "SpecError",
    "load",
]


def __getattr__(name):
    """A public name, loaded now; in a Jupyter kernel also what shows progress there."""
    if name not in __all__:
        raise AttributeError(f"module 'hpcbatch' has no attribute {name!r}; it has: {', '.join(__all__)}")
    if "ipykernel" in _sys.modules:
        _importlib.import_module("hpcbatch.notebook").enable()
    home = "hpcbatch.errors" if name in _ERRORS else "hpcbatch.client"
    value = globals()[name] = getattr(_importlib.import_module(home), name)
    return value


def __dir__():
    return [*__all__, "__version__"]
