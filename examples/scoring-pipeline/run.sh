#!/usr/bin/env bash
# A scoring pipeline behind an endpoint: files are scaled as in training, then scored with an MLflow model.
# Everything that begins with `az ml` is what an Azure ML user types; COMPUTE=amlcompute takes Slurm where there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

az() { case "$1" in ml) shift; hpcbatch "$@" ;; *) : ;; esac; }

ENDPOINT_NAME="tumor-scoring"
VENV="${PIPELINE_VENV:-$PWD/.venv}"

echo "== The environment of the steps, the model, and the data"
if [ ! -e "$VENV/.complete" ]; then
    python3 -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
    touch "$VENV/.complete"
fi
"$VENV/bin/python" train.py

echo "== Where it runs"
az account set --subscription "ignored"
az ml compute create --name batch-cluster --type "${COMPUTE:-local}" --min-instances 0 --max-instances 5 --output none
az ml environment create --file environment.yml --output none
az ml environment map 'tumors-*' --python "$VENV/bin/python" --output none

echo "== What the steps use"
az ml model create --name tumor-classifier --type mlflow_model --path model --output none
az ml model create --name tumor-scaler --type custom_model --path transformations --output none
az ml component create -f components/transform/transform.yml --output none
az ml component create -f components/score/score.yml --output none

echo "== Try the pipeline as a job"
az ml job create -f pipeline-job.yml --set inputs.measurements.path=data/unlabeled --stream

echo "== The endpoint and its deployment"
az ml batch-endpoint create --file endpoint.yml --name $ENDPOINT_NAME --output none
az ml batch-deployment create --endpoint $ENDPOINT_NAME --file deployment.yml --set-default --output none

echo "== Score every file in data/unlabeled"
JOB_NAME=$(az ml batch-endpoint invoke --name $ENDPOINT_NAME --f inputs.yml --query name --output tsv)
az ml job stream --name "$JOB_NAME"
az ml job list --parent-job-name "$JOB_NAME" --query "[].[display_name, status]" --output tsv

echo "== The scores, beside the measurements"
rm -rf named-outputs
az ml job download --name "$JOB_NAME" --output-name scores --output none
"$VENV/bin/python" compare.py named-outputs/scores truth.csv
