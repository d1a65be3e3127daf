"""Saves the MLflow models of tests/contract/test_mlflow.py; runs in an environment that has mlflow: FOLDER."""

import sys
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS = {"whole": "long", "real": "double", "text": "string", "flag": "boolean", "day": "datetime"}


class Types(mlflow.pyfunc.PythonModel):
    """Predicts what types its columns have."""

    def predict(self, context, model_input, params=None):
        kinds = " ".join(str(kind) for kind in model_input.dtypes)
        return [kinds] * len(model_input)


class Pixels(mlflow.pyfunc.PythonModel):
    """Predicts the shape and the type of the image, and its mean: three columns."""

    def predict(self, context, model_input, params=None):
        shape = "x".join(map(str, model_input.shape))
        return pd.DataFrame({"shape": [shape], "type": [str(model_input.dtype)], "mean": [float(model_input.mean())]})


class Sums(mlflow.pyfunc.PythonModel):
    """Predicts the sum of each channel: an array of one row."""

    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=(1, 2))


def main(folder):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200)})
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, table["a"] + table["b"] > 0)
    mlflow.sklearn.save_model(
        classifier, folder / "classifier", signature=infer_signature(table, classifier.predict(table)),
        pip_requirements=["scikit-learn"], serialization_format="cloudpickle",
    )  # fmt: skip
    mlflow.sklearn.save_model(
        classifier, folder / "unsigned", pip_requirements=["scikit-learn"], serialization_format="cloudpickle"
    )
    columns = Schema([ColSpec(kind, name) for name, kind in COLUMNS.items()])
    image = Schema([TensorSpec(np.dtype(np.float32), (-1, 4, 6, 3))])
    samples = {
        "types": (Types(), ModelSignature(columns)),
        "types-unsigned": (Types(), None),
        "pixels": (Pixels(), None),
        "sums": (Sums(), ModelSignature(image)),
    }
    for name, (model, signature) in samples.items():
        mlflow.pyfunc.save_model(folder / name, python_model=model, signature=signature, pip_requirements=["pandas"])
    write_data(folder)


def write_data(folder):
    from PIL import Image

    rng = np.random.default_rng(1)
    (folder / "tables" / "deep" / "er").mkdir(parents=True)
    table = pd.DataFrame({"a": rng.normal(size=12), "b": rng.normal(size=12)})
    table[:5].to_csv(folder / "tables" / "b.csv", index=False)
    table[5:7].to_parquet(folder / "tables" / "a.parquet")
    table[7:8].to_csv(folder / "tables" / "deep" / "b.csv", index=False)
    table[8:10].to_parquet(folder / "tables" / "deep" / "er" / "c.pqt")
    table[10:].to_json(folder / "tables" / "z.jsonl", orient="records", lines=True)
    order = [5, 6, 0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    (table["a"] + table["b"] > 0)[order].to_csv(folder / "truth.csv", index=False, header=False)
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    (folder / "images").mkdir()
    for name in ("a.png", "b.bmp", "c.TIFF"):
        Image.fromarray(pixels).save(folder / "images" / name)
    Image.fromarray(pixels[:, :, 0]).save(folder / "images" / "grey.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
