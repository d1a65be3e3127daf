"""Components and pipelines as Azure ML's samples write them."""

from __future__ import annotations

from pathlib import Path

from hpcbatch.spec.yamlfile import Loaded, loads

COMMAND = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
name: prepare
version: 007
display_name: Prepare
type: command
is_deterministic: false
inputs:
  data:
    type: uri_folder
  rate:
    type: number
    default: 0.10
    min: 0
    max: 1
  encoding:
    type: string
    optional: true
    default: ordinal
    enum: [ordinal, onehot]
  note:
    type: string
    optional: true
outputs:
  prepared:
    type: uri_folder
    mode: upload
code: src
environment: azureml:sklearn@latest
environment_variables: {THREADS: 4}
resources: {instance_count: 2}
distribution: {type: PyTorch, process_count_per_instance: 4}
limits: {timeout: 300}
additional_includes: [../shared]
command: >-
  python prepare.py --data ${{inputs.data}} --rate ${{inputs.rate}}
  $[[--encoding ${{inputs.encoding}}]] $[[--note ${{inputs.note}}]]
  --out ${{outputs.prepared}}
"""

PIPELINE = """\
type: pipeline
name: train_and_score
inputs:
  raw: {type: uri_folder}
  rate: {type: number, default: 0.5}
outputs:
  scores: {type: uri_folder}
jobs:
  prepare:
    type: command
    component: ./prepare.yml
    inputs:
      data: ${{parent.inputs.raw}}
      rate: ${{parent.inputs.rate}}
    outputs:
      prepared:
  score:
    component:
      command: python score.py ${{inputs.data}} ${{outputs.scores}}
      environment: {image: python}
      inputs: {data: {type: uri_folder}}
      outputs: {scores: {type: uri_folder}}
    inputs:
      data: ${{parent.jobs.prepare.outputs.prepared}}
    outputs:
      scores:
        mode: upload
        path: ${{parent.outputs.scores}}
    limits: {timeout: 60}
"""


def loaded(text: str, file: str = "component.yml") -> Loaded:
    """*text* as a document."""
    return loads(text.encode(), file, Path("/"))
