"""Azure's sample of two deployments behind one endpoint, images and networks: its `deploy-and-run.sh` as published.

HPCBATCH_AZUREML_EXAMPLES names the checkout, as in test_azureml_examples.py. Beside it, each the Python of a virtual
environment: HPCBATCH_AZUREML_TORCH_PYTHON (torch==2.13.0 of the CPU, pytorch-lightning==2.6.6, pandas, pillow) and
HPCBATCH_AZUREML_KERAS_PYTHON (tensorflow-cpu==2.15.1, pandas<3, pillow; Keras 3 reads no SavedModel). Without the three
this file is not collected.

Changed are the address of the data, which are not in the checkout (digits drawn here, of the same size and depth), and
the map of the two environments. A torchvision that goes with torch of the CPU is not on PyPI: where the environment has
none, the one function that the sample calls of it, `read_image`, is put beside its script.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import DevCluster

SAMPLE = Path(os.environ["HPCBATCH_AZUREML_EXAMPLES"]) / "cli/endpoints/batch/deploy-models/mnist-classifier"
PYTHONS = {"torch": os.environ["HPCBATCH_AZUREML_TORCH_PYTHON"], "keras": os.environ["HPCBATCH_AZUREML_KERAS_PYTHON"]}
AZ = f'az() {{ case "$1" in ml) shift; {sys.executable} -m hpcbatch "$@";; *) :;; esac; }}\n'
MAPS = f"""az ml environment map batch-torch-py38 --python {PYTHONS["torch"]}
az ml environment map batch-tensorflow-py38 --python {PYTHONS["keras"]}
"""
IMAGES = 45
DRAW = """
import sys
from PIL import Image, ImageDraw, ImageFont

for number in range(int(sys.argv[2])):
    image = Image.new("L", (28, 28))
    font = ImageFont.load_default(size=20 + number // 10)
    ImageDraw.Draw(image).text((14, 14), str(number % 10), fill=255, font=font, anchor="mm")
    image.save(f"{sys.argv[1]}/{number:03}-{number % 10}.png")
"""
# pytorch_lightning, which the script imports next, takes a torchvision that is there for a whole one.
TORCHVISION = """
import sys

import numpy
import torch
from PIL import Image

path, me = sys.path.copy(), sys.modules.pop("torchvision")
sys.path[:] = [one for one in path if not __file__.startswith(one or "?")]
import pytorch_lightning

sys.path[:], sys.modules["torchvision"] = path, me


class io:
    @staticmethod
    def read_image(path):
        return torch.from_numpy(numpy.array(Image.open(path)))[None]
"""
ASK = """
import glob, sys

sys.path.insert(0, sys.argv[1])
import batch_driver

batch_driver.init()
found = batch_driver.run(sorted(glob.glob(sys.argv[2] + "/*")))
found.to_csv(sys.argv[3], sep=" ", header=False, index=False)
"""


def asked(project: Path, framework: str, images: Path) -> str:
    """What the sample's script says of all images in one call, without us."""
    code, found = project / f"deployment-{framework}" / "code", project.parent / f"{framework}.csv"
    env = {**os.environ, "AZUREML_MODEL_DIR": str(code.parent)}
    subprocess.run([PYTHONS[framework], "-c", ASK, code, images, found], env=env, check=True, capture_output=True)
    return found.read_text()


def right(rows: str) -> int:
    """How many digits were taken for what they are."""
    return sum(file[-5] == digit for file, digit, _ in (row.split() for row in rows.splitlines()))


@pytest.mark.slurm
def test_mnist_classifier(devcluster: DevCluster, tmp_path: Path, eventually: Callable[..., None]) -> None:
    """Two deployments, the default switched, three overrides, an output in a datastore, then all of it deleted."""
    images, project, ws = tmp_path / "images", tmp_path / "project", tmp_path / "ws"
    images.mkdir()
    subprocess.run([PYTHONS["keras"], "-c", DRAW, images, str(IMAGES)], check=True)
    shutil.copytree(SAMPLE, project)
    if subprocess.run([PYTHONS["torch"], "-c", "import torchvision"], capture_output=True, check=False).returncode:
        (project / "deployment-torch" / "code" / "torchvision.py").write_text(TORCHVISION)
    script, addresses = re.subn(r"https://[^\s\"]+", str(images), (project / "deploy-and-run.sh").read_text("utf-8"))
    assert addresses == 2
    env = {**devcluster.env, "HOME": str(tmp_path), "HPCBATCH_WORKSPACE": str(ws)}
    env.pop("XDG_CONFIG_HOME", None)

    def ran(lines: str) -> str:
        done = subprocess.run(["bash", "-c", AZ + lines], cwd=project, env=env, capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    printed = ran(MAPS + script)
    assert printed.count("Job completed") == 4
    assert '"deployment_name": "mnist-keras-dpl"' in printed
    expected = {framework: asked(project, framework, images) for framework in PYTHONS}
    assert {framework: right(rows) > IMAGES / 3 for framework, rows in expected.items()} == dict.fromkeys(PYTHONS, True)

    assert (project / "named-outputs" / "score" / "predictions.csv").read_text() == expected["torch"]
    stored = ws / "datastores" / "workspaceblobstore"
    eventually(lambda: list(stored.glob("*/predictions_*.csv")), 300)  # the script does not wait for this job
    assert next(stored.glob("*/predictions_*.csv")).read_text() == expected["torch"]
    jobs = [json.loads(ran(f"az ml job show --name {job['name']}")) for job in json.loads(ran("az ml job list"))]
    shapes = sorted((job["mini_batches"], job["groups"], job["deployment"]) for job in jobs)
    assert shapes == [(3, 3, "mnist-torch-dpl"), *[(5, 1, "mnist-keras-dpl")] * 2, *[(5, 1, "mnist-torch-dpl")] * 2]
    for job in jobs:
        if job["deployment"] == "mnist-keras-dpl":
            assert (Path(job["outputs"]["score"]["path"]) / "predictions.csv").read_text() == expected["keras"]
