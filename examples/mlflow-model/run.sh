#!/usr/bin/env bash
# Train a model, save it with MLflow, deploy it without a scoring script, score files, look at the predictions.
# Everything that begins with `az ml` is what an Azure ML user types; COMPUTE=amlcompute takes Slurm where there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

az() { case "$1" in ml) shift; hpcbatch "$@" ;; *) : ;; esac; }

ENDPOINT_NAME="wine-batch"
VENV="${MLFLOW_MODEL_VENV:-$PWD/.venv}"

echo "== The environment of the model, and the model"
if [ ! -e "$VENV/.complete" ]; then
    python3 -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
    touch "$VENV/.complete"
fi
"$VENV/bin/python" train.py

echo "== Where it runs"
az account set --subscription "ignored"
az ml compute create --name batch-cluster --type "${COMPUTE:-local}" --min-instances 0 --max-instances 5 --output none
az ml environment map 'mlflow:wine-*' --python "$VENV/bin/python" --output none

echo "== The endpoint and its deployment"
az ml model create --name wine-cultivar --type mlflow_model --path model --output none
az ml batch-endpoint create --file endpoint.yml --name $ENDPOINT_NAME --output none
az ml batch-deployment create --file deployment.yml --endpoint-name $ENDPOINT_NAME --set-default --output none

echo "== Score every file in data/"
JOB_NAME=$(az ml batch-endpoint invoke --name $ENDPOINT_NAME --input data --input-type uri_folder --query name --output tsv)
az ml job stream --name "$JOB_NAME"
STATUS=$(az ml job show --name "$JOB_NAME" --query status --output tsv)
if [[ $STATUS != "Completed" ]]; then
    echo "Job $JOB_NAME ended as $STATUS" >&2
    exit 1
fi

echo "== The predictions: row, prediction, file"
rm -rf named-outputs
az ml job download --name "$JOB_NAME" --output-name score --output none
head -n 3 named-outputs/score/predictions.csv
"$VENV/bin/python" compare.py named-outputs/score/predictions.csv truth.csv
