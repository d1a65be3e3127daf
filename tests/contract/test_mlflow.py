"""MLflow models without a scoring script: real models, loaded by an mlflow in an environment of their own."""

from __future__ import annotations

import csv
import fcntl
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.fs import scan
from hpcbatch.operations import assets, deployments
from tests.environments import Environments
from tests.site import ENDPOINT, Ended, Site

pytestmark = pytest.mark.slow

REQUIREMENTS = ("mlflow-skinny==3.17.2", "scikit-learn==1.9.1", "pandas>=2", "pyarrow", "pillow")
WAIT_S = 900


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, environments: Environments) -> Path:
    """A folder with `venv`, where mlflow is, with models and with data; made once for all processes of the run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "mlflow-samples"
    with open(folder.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "truth.csv").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "venv").symlink_to(environments(*REQUIREMENTS))
            python = folder / "venv" / "bin" / "python"
            subprocess.run([python, Path(__file__).with_name("mlflow_samples.py"), folder], check=True)
    return folder


@dataclass(frozen=True)
class Models:
    """Deploys the sample models."""

    site: Site
    samples: Path

    def deploy(self, model: str, python: Path | None = None, **settings: Any) -> str:
        """The name of a new deployment of a sample, without script and without environment."""
        name = self.site.fresh("flow")
        python = python or self.samples / "venv"
        assets.map_environment(self.site.ws, f"mlflow:{name}", str(python))
        document = {
            "name": name,
            "endpoint_name": ENDPOINT,
            "type": "model",
            "model": {"name": name, "path": str(self.samples / model), "type": "mlflow_model"},
            "compute": f"azureml:{self.site.compute}",
            "settings": {"retry_settings": {"max_retries": 0, "timeout": 600}, **settings},
        }
        path = self.site.folder / f"{name}.yml"
        path.write_text(json.dumps(document))
        deployments.create_deployment(self.site.ws, file=path)
        return name

    def run(self, model: str, data: Path, **more: Any) -> Ended:
        """The finished job of a new deployment."""
        return self.site.run(self.deploy(model), data, timeout_s=WAIT_S, **more)

    def folder(self, **files: str) -> Path:
        """Data: files by name, with `__` for the dot."""
        folder = self.site.data(0)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return folder


@pytest.fixture
def models(site: Site, samples: Path) -> Models:
    return Models(site, samples)


def _rows(ended: Ended) -> list[list[str]]:
    assert ended.status == "Completed", f"{ended.detail}\n{ended.log}"
    assert ended.output is not None
    return list(csv.reader(ended.output.decode().splitlines()))


@pytest.mark.parametrize("model", ["classifier", "unsigned"])
def test_tables_of_every_format_in_nested_folders_and_two_groups(models: Models, model: str) -> None:
    """Rows come in the order of the input; what is nested is named by its path below it."""
    ended = models.run(model, models.samples / "tables", mini_batch_size=2, groups=2)
    files = {"a.parquet": 2, "b.csv": 5, "deep/b.csv": 1, "deep/er/c.pqt": 2, "z.jsonl": 2}
    places = [(str(row), name) for name, count in files.items() for row in range(count)]
    truth = (models.samples / "truth.csv").read_text().splitlines()
    assert _rows(ended) == [[row, label, name] for (row, name), label in zip(places, truth, strict=True)]
    progress = ended.job["progress"]
    assert (progress["items_succeeded"], progress["items_failed"]) == (5, 0)


def test_the_signature_types_the_columns_while_they_are_read(models: Models) -> None:
    data = models.folder(t__csv="whole,real,text,flag,day\n1,2,3,True,2026-01-02\n")
    [[_, typed, _]] = _rows(models.run("types", data))
    whole, real, text, flag, day = typed.split()
    assert (whole, real, flag, day[:10]) == ("int64", "float64", "bool", "datetime64")
    assert text in ("object", "str", "string")
    [[_, guessed, _]] = _rows(models.run("types-unsigned", data))
    assert guessed.split()[:2] == ["int64", "int64"]


def test_images_without_a_signature_come_as_they_are(models: Models) -> None:
    """One image per call, in np.uint8; several columns of a prediction stay several."""
    assert _rows(models.run("pixels", models.samples / "images")) == [
        ["4x6x3", "uint8", "35.5", "a.png"],
        ["4x6x3", "uint8", "35.5", "b.bmp"],
        ["4x6x3", "uint8", "35.5", "c.TIFF"],
        ["4x6", "uint8", "34.5", "grey.png"],
    ]


def test_images_take_the_shape_and_type_of_the_signature(models: Models) -> None:
    """A batch of one; a grey image gets the colours that the model wants."""
    assert _rows(models.run("sums", models.samples / "images")) == [
        *([["828.0", "852.0", "876.0", name] for name in ("a.png", "b.bmp", "c.TIFF")]),
        ["828.0", "828.0", "828.0", "grey.png"],
    ]


def test_a_wrong_type_fails_its_mini_batch_and_names_the_file(models: Models) -> None:
    data = models.folder(
        good__csv="whole,real,text,flag,day\n1,2,3,True,2026-01-02\n",
        bad__csv="whole,real,text,flag,day\nmany,2,3,True,2026-01-02\n",
        short__csv="whole,real\n1,2\n",
    )
    ended = models.run("types", data, mini_batch_size=1)
    assert [row[2] for row in _rows(ended)] == ["good.csv"]
    assert ended.job["progress"]["items_failed"] == 2
    first, second = (report["message"] for report in ended.job["progress"]["failures"])
    assert first.startswith(f"Error processing input file: '{data}/bad.csv'. ValueError: invalid literal for int()")
    assert second.startswith(f"Error processing input file: '{data}/short.csv'. MlflowException: ")
    strict = models.run("types", data, mini_batch_size=1, error_threshold=0)
    assert (strict.status, "error threshold 0" in strict.detail) == ("Failed", True)


def test_unsupported_files_are_all_named_before_anything_is_submitted(models: Models) -> None:
    data = models.folder(a__csv="a,b\n1,2\n", b__avro="", c__json="{}", README="")
    jobs = [path for user in models.site.ws.jobs.glob("*") for path in scan.names(user)]
    with pytest.raises(SpecError, match=r"3 of 4 files cannot be scored: 'README', 'b\.avro', 'c\.json'\.") as caught:
        models.run("classifier", data)
    assert "'', 'avro', 'json' is not supported" in str(caught.value)
    assert "supported: .csv, .parquet, .pqt, .jsonl, .png" in str(caught.value)
    assert f"mv {data}/README ELSEWHERE" in caught.value.hint
    assert [path for user in models.site.ws.jobs.glob("*") for path in scan.names(user)] == jobs


def test_an_environment_without_mlflow_is_told_what_to_type(models: Models, bare_python: Path) -> None:
    data = models.folder(a__csv="a,b\n1,2\n")
    name = models.deploy("classifier", bare_python)
    ended = models.site.run(name, data, timeout_s=WAIT_S)
    assert ended.status == "Failed"
    words = (
        f"No module named 'mlflow'. The Python {bare_python} of this deployment cannot load the MLflow model {name}."
    )
    assert words in ended.detail
    assert f"{bare_python} -m pip install mlflow" in ended.detail
    assert f"hpcbatch environment map 'mlflow:{name}' --python PATH" in ended.detail


def test_a_script_beside_an_mlflow_model_is_what_runs(models: Models) -> None:
    """As for any other model: MLflow has no say in it."""
    script = "import os\ndef run(mini_batch):\n    return [os.listdir(os.environ['AZUREML_MODEL_DIR'])]\n"
    model = {"model": {"path": str(models.samples / "classifier"), "type": "mlflow_model"}}
    name = models.site.deploy(script, extra=model)
    ended = models.site.run(name, models.folder(a__avro=""), timeout_s=WAIT_S)
    assert ended.output == b"['classifier']\n"
