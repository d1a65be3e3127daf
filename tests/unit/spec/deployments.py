"""Deployments in both forms of the YAML, and what can be wrong with them."""

from __future__ import annotations

from typing import Any

TYPED = """\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: mnist-torch-dpl
description: A deployment using Torch to solve the MNIST classification dataset.
endpoint_name: mnist-batch
type: model
model:
  name: mnist-classifier-torch
  path: model
code_configuration:
  code: code
  scoring_script: batch_driver.py
environment:
  name: batch-torch-py38
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
  conda_file: environment/conda.yaml
compute: azureml:batch-cluster
resources:
  instance_count: 1
settings:
  max_concurrency_per_instance: 2
  mini_batch_size: 10
  output_action: append_row
  output_file_name: predictions.csv
  retry_settings:
    max_retries: 3
    timeout: 30
  error_threshold: -1
  logging_level: info
"""
LEGACY = """\
$schema: https://azuremlschemas.azureedge.net/latest/batchDeployment.schema.json
name: demo
endpoint_name: bert-batch
model: azureml://registries/azureml/models/bert/versions/7
compute: cpu-cluster
error_threshold: 0
logging_level: Info
max_concurrency_per_instance: 2
mini_batch_size: 5
output_file_name: predictions.csv
output_action: AppendRow
resources:
  instance_count: 3
retry_settings:
  max_retries: 1
  timeout: 9999
environment_variables:
  RATIO: 1.10
  DEBUG: true
  EMPTY:
"""

# what is put in place of what in TYPED; then line, field, found, a part of what is allowed, a part of the message
BAD: dict[str, tuple[str, str, int, str, Any, str, str]] = {
    "unknown field": (
        "description:",
        "descripton:",
        3,
        "descripton",
        None,
        "description",
        "Did you mean 'description'?",
    ),
    "setting at the root": (
        "type: model",
        "type: model\nmini_batch_size: 5",
        6,
        "mini_batch_size",
        5,
        "settings",
        "settings.mini_batch_size",
    ),
    "misspelled setting": (
        "mini_batch_size",
        "minibatch_size",
        21,
        "settings.minibatch_size",
        10,
        "mini_batch_size",
        "mini_batch_size",
    ),
    "zero files": ("mini_batch_size: 10", "mini_batch_size: 0", 21, "settings.mini_batch_size", 0, ">= 1", "0"),
    "text for a number": (
        "mini_batch_size: 10",
        "mini_batch_size: ten",
        21,
        "settings.mini_batch_size",
        "ten",
        "whole",
        "'ten'",
    ),
    "fraction": ("mini_batch_size: 10", "mini_batch_size: 1.5", 21, "settings.mini_batch_size", 1.5, "whole", "1.5"),
    "boolean for a number": (
        "mini_batch_size: 10",
        "mini_batch_size: true",
        21,
        "settings.mini_batch_size",
        True,
        "whole",
        "true",
    ),
    "threshold": ("error_threshold: -1", "error_threshold: -2", 27, "settings.error_threshold", -2, ">= -1", "-2"),
    "no time": ("timeout: 30", "timeout: 0", 26, "settings.retry_settings.timeout", 0, "> 0", "0"),
    "negative retries": (
        "max_retries: 3",
        "max_retries: -1",
        25,
        "settings.retry_settings.max_retries",
        -1,
        ">= 0",
        "-1",
    ),
    "no instances": ("instance_count: 1", "instance_count: 0", 18, "resources.instance_count", 0, ">= 1", "0"),
    "no processes": (
        "max_concurrency_per_instance: 2",
        "max_concurrency_per_instance: 0",
        20,
        "settings.max_concurrency_per_instance",
        0,
        ">= 1",
        "0",
    ),
    "action": (
        "output_action: append_row",
        "output_action: apend_row",
        22,
        "settings.output_action",
        "apend_row",
        "summary_only",
        "append_row",
    ),
    "level": ("logging_level: info", "logging_level: loud", 28, "settings.logging_level", "loud", "debug", "'loud'"),
    "file in a folder": (
        "predictions.csv",
        "../predictions.csv",
        23,
        "settings.output_file_name",
        "../predictions.csv",
        "without '/'",
        "file name",
    ),
    "file above": ("predictions.csv", "..", 23, "settings.output_file_name", "..", "without '/'", "file name"),
    "file with control": (
        "predictions.csv",
        '"a\\0b"',
        23,
        "settings.output_file_name",
        "a\0b",
        "without '/'",
        "file name",
    ),
    "long file": ("predictions.csv", "x" * 201, 23, "settings.output_file_name", "x" * 201, "200 bytes", "file name"),
    "summary with a file": (
        "append_row",
        "summary_only",
        19,
        "settings",
        None,
        "append_row",
        "need not to be specified",
    ),
    "instances twice": (
        "error_threshold: -1",
        "instance_count: 2",
        1,
        "",
        None,
        "resources",
        "Can't set instance_count when resources",
    ),
    "name": ("mnist-torch-dpl", "2nd", 2, "name", "2nd", "3 to 32 letters", "'2nd'"),
    "short name": ("mnist-torch-dpl", "ab", 2, "name", "ab", "3 to 32", "'ab'"),
    "name is a number": ("mnist-torch-dpl", "5", 2, "name", 5, "quote", "5"),
    "no endpoint": ("endpoint_name: mnist-batch", "tags: {}", None, "endpoint_name", None, "", "required"),
    "no script": ("scoring_script: batch_driver.py", "", 9, "code_configuration.scoring_script", None, "", "required"),
    "model without path": ("  path: model\n", "", 6, "model.path", None, "", "required"),
    "model with a typo": ("path: model", "pth: model", 6, "model.path", None, "", "Did you mean 'path'?"),
    "model is a list": (
        "model:\n  name: mnist-classifier-torch\n  path: model",
        "model: [a]",
        6,
        "model",
        ["a"],
        "mapping",
        "",
    ),
    "compute is a number": ("azureml:batch-cluster", "5", 16, "compute", 5, "quote", "5"),
    "pipeline": ("type: model", "type: pipeline", 5, "type", "pipeline", "model", "a deployment of its own"),
    "another type": ("type: model", "type: online", 5, "type", "online", "model", "'online'"),
    "variable": (
        "logging_level: info",
        "environment_variables: {'A B': x}",
        28,
        "settings.environment_variables",
        {"A B": "x"},
        "digits",
        "A B",
    ),
    "variables in a list": (
        "logging_level: info",
        "environment_variables: [A=x]",
        28,
        "settings.environment_variables",
        ["A=x"],
        "mapping",
        "",
    ),
    "sbatch injection": (
        "instance_count: 1",
        "properties: {slurm: {partition: 'x --wrap=id'}}",
        18,
        "resources.properties.slurm.partition",
        "x --wrap=id",
        "letters",
        "Slurm",
    ),
}
