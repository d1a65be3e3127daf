#!/usr/bin/env bash
# A training pipeline behind an endpoint: two models are trained side by side, and the better one is kept.
# Everything that begins with `az ml` is what an Azure ML user types; COMPUTE=amlcompute takes Slurm where there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

az() { case "$1" in ml) shift; hpcbatch "$@" ;; *) : ;; esac; }

ENDPOINT_NAME="tumor-training"
VENV="${PIPELINE_VENV:-$PWD/.venv}"

echo "== The environment of the steps, and the data"
if [ ! -e "$VENV/.complete" ]; then
    python3 -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
    touch "$VENV/.complete"
fi
"$VENV/bin/python" get_data.py

echo "== Where it runs"
az account set --subscription "ignored"
az ml compute create --name batch-cluster --type "${COMPUTE:-local}" --min-instances 0 --max-instances 5 --output none
az ml environment create --file environment.yml --output none
az ml environment map 'tumors-*' --python "$VENV/bin/python" --output none
az ml data create --name tumors-train --type uri_folder --path data/train --output none

echo "== The endpoint and its deployment"
az ml batch-endpoint create --file endpoint.yml --name $ENDPOINT_NAME --output none
az ml batch-deployment create --file deployment.yml --endpoint-name $ENDPOINT_NAME --set-default --output none

echo "== Train"
JOB_NAME=$(az ml batch-endpoint invoke --name $ENDPOINT_NAME --f inputs.yml --query name --output tsv)
az ml job stream --name "$JOB_NAME"
az ml job list --parent-job-name "$JOB_NAME" --query "[].[display_name, status]" --output tsv

echo "== What it made"
rm -rf named-outputs
for OUTPUT in model transformations report; do
    az ml job download --name "$JOB_NAME" --output-name $OUTPUT --output none
done
ls named-outputs/model/MLmodel named-outputs/transformations/scaler.pkl
cat named-outputs/report/report.json
