"""A project with components and pipelines, as Azure ML's samples have them."""

from __future__ import annotations

from pathlib import Path

PREPARE = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
name: prepare
type: command
inputs:
  data: {type: uri_folder}
  transforms: {type: custom_model, optional: true}
  encoding: {type: string, optional: true, default: ordinal, enum: [ordinal, onehot]}
  rate: {type: number, default: 0.10, max: 1}
outputs:
  prepared: {type: uri_folder}
  learned: {type: custom_model}
code: ../src
environment: {image: some-image}
command: >-
  python prepare.py --data ${{inputs.data}} $[[--transforms ${{inputs.transforms}}]]
  $[[--encoding ${{inputs.encoding}}]] --rate ${{inputs.rate}} --out ${{outputs.prepared}}
  --learned ${{outputs.learned}}
"""
PIPELINE = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json
type: pipeline
name: prepare_and_score
display_name: Prepare and score
inputs:
  raw: {type: uri_folder}
  mode: {type: string, default: append}
  rate: {type: number, optional: true}
outputs:
  scores: {type: uri_folder, mode: upload}
  learned: {type: custom_model}
jobs:
  score:
    type: command
    component:
      command: python score.py ${{inputs.model}} ${{inputs.data}} ${{inputs.mode}} ${{outputs.scores}}
      code: ./src
      environment: {image: some-image}
      inputs:
        model: {type: mlflow_model}
        data: {type: uri_folder}
        mode: {type: string, enum: [append, replace]}
      outputs:
        scores: {type: uri_folder}
    inputs:
      data: ${{parent.jobs.prepare.outputs.prepared}}
      model: {path: "azureml:heart@latest", type: mlflow_model}
      mode: ${{parent.inputs.mode}}
    outputs:
      scores: {mode: upload, path: "${{parent.outputs.scores}}"}
  prepare:
    type: command
    component: ./components/prepare.yml
    inputs:
      data: ${{parent.inputs.raw}}
      rate: ${{parent.inputs.rate}}
    outputs:
      prepared:
      learned: ${{parent.outputs.learned}}
    environment_variables: {THREADS: 4}
    resources: {instance_count: 2}
    limits: {timeout: 60}
"""

DEPLOYMENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineComponentBatchDeployment.schema.json
name: graph
endpoint_name: heart-batch
type: pipeline
component: pipeline.yml
settings:
  continue_on_step_failure: false
  default_compute: azureml:batch-cluster
"""


def write_project(folder: Path) -> Path:
    """pipeline.yml, components/, src/, data/ and model/ in *folder*."""
    for name in ("components", "src", "data", "model"):
        (folder / name).mkdir(parents=True)
    (folder / "pipeline.yml").write_text(PIPELINE)
    (folder / "deployment.yml").write_text(DEPLOYMENT)
    (folder / "components" / "prepare.yml").write_text(PREPARE)
    (folder / "src" / "prepare.py").write_text("print('prepare')\n")
    (folder / "src" / "score.py").write_text("print('score')\n")
    (folder / "data" / "a.csv").write_text("1,2\n")
    (folder / "model" / "MLmodel").write_text("flavors: {python_function: {}}\n")
    return folder
