"""A shell script of `az ml` lines runs to its end when `az` means hpcbatch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = r"""
set -e
az() { case "$1" in ml) shift; "$PYTHON" -m hpcbatch "$@";; *) :;; esac; }

ENDPOINT_NAME="heart-batch"
ENDPOINT_SUFFIX=$(cat /dev/urandom | tr -dc 'a-zA-Z0-9' | fold -w ${1:-5} | head -n 1)
ENDPOINT_NAME="$ENDPOINT_NAME-$ENDPOINT_SUFFIX"
az account set --subscription 0000
az configure --defaults group=cardio location=here
if [[ $(az ml model show --name heart --label latest 2>/dev/null) ]]; then echo "Skipped"; fi
az ml model create --name heart --type custom_model --path model
az ml environment create -n here --python "$PYTHON"
az ml compute create -n batch-cluster --type amlcompute --min-instances 0 --max-instances 5
az ml batch-endpoint create --file endpoint.yml --name $ENDPOINT_NAME
az ml batch-endpoint show --name $ENDPOINT_NAME
az ml batch-deployment create --f deployment.yml --endpoint $ENDPOINT_NAME --set-default
az ml batch-deployment create --file deployment.yml \
                              --endpoint-name $ENDPOINT_NAME \
                              --set name=second \
                              --set settings.environment_variables.MARK=!
az ml data create -f data.yml

JOB_NAME=$(az ml batch-endpoint invoke --name $ENDPOINT_NAME --input data --input-type uri_folder --query name -o tsv)
az ml job show -n $JOB_NAME --query status -o tsv
az ml job stream -n $JOB_NAME
STATUS=$(az ml job show -n $JOB_NAME --query status -o tsv)
if [[ $STATUS == "Completed" ]]; then echo "Job completed"; else echo "Job $STATUS"; exit 1; fi
az ml job download --name $JOB_NAME --output-name score --download-path ./

JOB_NAME=$(az ml batch-endpoint invoke --name $ENDPOINT_NAME --input data --output-path ./out \
  --set output_file_name=mine.csv --mini-batch-size 20 --instance-count 5 --query name -o tsv)
az ml job stream -n $JOB_NAME
JOB_NAME=$(az ml batch-endpoint invoke --name $ENDPOINT_NAME --deployment-name second \
  --input azureml:hearts@latest --query name -o tsv)
az ml job show -n $JOB_NAME --web
az ml job stream -n $JOB_NAME
az ml job download --name $JOB_NAME --download-path ./second
az ml batch-endpoint update --name $ENDPOINT_NAME --defaults "deployment_name=second"
az ml batch-endpoint show --name $ENDPOINT_NAME --query "{Name:name, Defaults:defaults}"
az ml batch-deployment list-jobs --name second --endpoint-name $ENDPOINT_NAME --query [].name
az ml batch-endpoint list-jobs --name $ENDPOINT_NAME --query [].name
az ml batch-endpoint update --name $ENDPOINT_NAME --set defaults.deployment_name=first
az ml batch-deployment delete -n first -e $ENDPOINT_NAME --yes
az ml batch-endpoint delete --name $ENDPOINT_NAME --yes
"""


@pytest.mark.slow
def test_a_script_of_az_lines(workspace: Path, tmp_path: Path) -> None:
    """The endpoint, two deployments, three jobs with overrides, their outputs, and everything deleted again."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weight.txt").write_text("3")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "batch_driver.py").write_text(
        "import os\n\n\ndef init():\n    global weight\n"
        "    weight = open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model', 'weight.txt')).read()\n\n\n"
        "def run(mini_batch):\n    mark = os.environ.get('MARK', '')\n"
        "    return [f'{os.path.basename(path)} {weight}{mark}' for path in mini_batch]\n"
    )
    (tmp_path / "data").mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / "data" / name).write_text("1,2\n")
    (tmp_path / "data.yml").write_text("name: hearts\ntype: uri_folder\npath: data\n")
    (tmp_path / "endpoint.yml").write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json\n"
        "name: heart-batch\nauth_mode: aad_token\n"
    )
    (tmp_path / "deployment.yml").write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json\n"
        "name: first\nendpoint_name: heart-batch\ntype: model\nmodel: azureml:heart@latest\n"
        "code_configuration:\n  code: code\n  scoring_script: batch_driver.py\n"
        "environment: azureml:here@latest\ncompute: azureml:local\nresources:\n  instance_count: 2\n"
        "settings:\n  mini_batch_size: 2\n  output_action: append_row\n  output_file_name: predictions.csv\n"
    )
    done = subprocess.run(
        ["bash", "-c", SCRIPT], cwd=tmp_path, env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Job completed" in done.stdout
    expected = "a.csv 3\nb.csv 3\nc.csv 3\n"
    assert (tmp_path / "named-outputs" / "score" / "predictions.csv").read_text() == expected
    assert (tmp_path / "out" / "mine.csv").read_text() == expected
    assert (tmp_path / "second/named-outputs/score/predictions.csv").read_text() == expected.replace("\n", "!\n")
