"""The `MLmodel` file of an MLflow model, which MLflow writes: only what must be known before the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcbatch.errors import SpecError
from hpcbatch.spec.yamlfile import load


def check_can_predict(folder: Path) -> None:
    """Raises SpecError unless the MLflow model in *folder* has the flavor `python_function`, which knows predict()."""
    flavors = load(folder / "MLmodel").data.get("flavors")
    names = ", ".join(sorted(flavors)) if isinstance(flavors, Mapping) else ""
    if not isinstance(flavors, Mapping) or "python_function" not in flavors:
        raise SpecError(
            f"The model has no flavor python_function, so MLflow cannot predict with it. It has: {names or 'none'}.",
            hint="Save it with one (mlflow.pyfunc.save_model), or add code_configuration and environment.",
            field="model",
            found=names,
            allowed="an MLflow model with the flavor python_function",
        )
