"""Documents that almost are what they should be: valid ones, damaged as people and as attackers damage them."""

from __future__ import annotations

import random
from typing import Any

import yaml

from tests.unit.spec.deployments import LEGACY, TYPED

ENDPOINT = """\
name: heart-batch
description: d
tags: {team: cardio}
auth_mode: aad_token
defaults: {deployment_name: blue}
"""
MODEL = "name: heart\nversion: 3\ntype: mlflow_model\npath: model\ndescription: d\ntags: {a: b}\nflavors: {x: {y: 1}}\n"
DATA = "name: raw\nversion: 1\ntype: uri_folder\npath: data\ntags: {a: 1.10}\n"
ENVIRONMENT = """\
name: env
version: '2'
image: mcr.microsoft.com/azureml/x:latest
os_type: linux
conda_file: {dependencies: [python=3.8.5, {pip: [a]}]}
python: /usr/bin/python3
"""
COMPUTE = """\
name: cpu-cluster
type: slurm
tier: low_priority
partition: short
account: a-1
time: 1:30:00
mem: 4G
gres: gpu:a100:2
max_instances: 5
setup: [module load x]
merge: {partition: m, time: 5}
"""
COMPONENT = """\
type: command
name: prepare
version: 1
inputs:
  data: {type: uri_folder, mode: ro_mount}
  rate: {type: number, default: 0.5, optional: true, min: 0, max: 1}
outputs:
  made: {type: uri_folder}
code: src
environment: azureml:here@latest
command: python prepare.py --data ${{inputs.data}} $[[--rate ${{inputs.rate}}]] --made ${{outputs.made}}
resources: {instance_count: 1}
"""
PIPELINE = """\
type: pipeline
name: score
display_name: Score
inputs:
  word: {type: string, default: hello}
outputs:
  scores: {type: uri_folder, mode: upload}
jobs:
  first:
    type: command
    component: {type: command, command: "echo ${{inputs.word}}", environment: azureml:here@latest,
                inputs: {word: {type: string}}, outputs: {made: {type: uri_folder}}}
    inputs: {word: "${{parent.inputs.word}}"}
    outputs: {made: }
  second:
    type: command
    component: {type: command, command: "cp -r ${{inputs.x}} ${{outputs.y}}", environment: azureml:here@latest,
                inputs: {x: {type: uri_folder}}, outputs: {y: {type: uri_folder}}}
    inputs: {x: "${{parent.jobs.first.outputs.made}}"}
    outputs: {y: "${{parent.outputs.scores}}"}
"""
VALID = {
    "endpoint": [ENDPOINT], "deployment": [TYPED, LEGACY], "model": [MODEL], "data": [DATA],
    "environment": [ENVIRONMENT], "compute": [COMPUTE], "component": [COMPONENT, PIPELINE], "job": [PIPELINE],
}  # fmt: skip

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**400, -(10**30), 1.5, float("nan"), float("inf"), "", " ", "~", "no", "0x1F",
    "1:30", "null", "../../etc/passwd", "/etc/passwd", "a\0b", "a\nb", "\x1b[31mred", "$(touch CANARY)",
    "`touch CANARY`", "x; touch CANARY", "\\'\"\ntouch CANARY #", "--wrap=touch", "#SBATCH --uid=0", "%j", "azureml:",
    "azureml:a:b:c",
    "azureml://registries/r/models/m/versions/1", "azureml:a@", "ä" * 300, "x" * 5000, "\u202egnp.exe", "\ud83d\ude00",
    [], {}, [1, [2, [3]]], {"a": {"b": {"c": 1}}}, [None], {"": ""}, ["module load x\ntouch CANARY"],
)  # fmt: skip
SNIPPETS = (
    ":", "- ", "{", "}", "[", "]", "&a ", "*a", "!!python/object/apply:os.system ['touch CANARY']\n", "|", ">", "'",
    '"', "#", "\t", "%YAML 1.1\n", "---\n", "...\n", "? ", "<<: *a\n", "\0", "\r\n", "\ufeff", "\x85", "name: again\n",
    "type: model\n", "x: &x [*x]\n", "a: " * 30, "@", "!!binary |\n", "? {a: b}\n: c\n",
)  # fmt: skip


def damaged(seed: int) -> tuple[str, bytes]:
    """(kind, bytes) of the document with this number."""
    chance = random.Random(seed)
    kind = chance.choice(sorted(VALID))
    text = chance.choice(VALID[kind])
    if chance.random() < 0.75:
        data = yaml.safe_load(text)
        for _ in range(chance.randint(1, 3)):
            _change(data, chance)
        text = yaml.safe_dump(data, allow_unicode=chance.random() < 0.5, sort_keys=chance.random() < 0.5)
    for _ in range(chance.choice((0, 0, 0, 1, 2, 5))):
        text = _scratched(text, chance)
    raw = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.03:
        at = chance.randrange(len(raw) + 1)
        raw = raw[:at] + chance.randbytes(3) + raw[at:]
    return kind, raw


def _change(data: dict[str, Any], chance: random.Random) -> None:
    """Replace, remove, add or move one value somewhere in *data*."""
    at: dict[str, Any] = data
    while True:
        below = [key for key, value in at.items() if isinstance(value, dict) and value]
        if not below or chance.random() < 0.5:
            break
        at = at[chance.choice(below)]
    key = chance.choice(sorted(map(str, at)))
    how = chance.randrange(5)
    if how == 0:
        at.pop(key, None)
    elif how == 1:
        at[chance.choice((f"{key}s", key[:-1], key.upper(), "unknown", ""))] = chance.choice(HOSTILE)
    elif how == 2:
        data[key] = at.get(key)
    else:
        at[key] = chance.choice(HOSTILE)


def _scratched(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = chance.randrange(len(lines) or 1)
    how = chance.randrange(4)
    if how == 0 and lines:
        lines.insert(at, lines[chance.randrange(len(lines))])
    elif how == 1 and lines:
        del lines[at]
    elif how == 2 and lines:
        lines[at] = " " * chance.randint(1, 4) + lines[at]
    else:
        place = chance.randrange(len(text) + 1)
        return text[:place] + chance.choice(SNIPPETS) + text[place:]
    return "".join(lines)


def hostile_text(seed: int) -> str:
    """A string of any characters, rich in those that shells, sbatch, paths and terminals care about."""
    chance = random.Random(seed)
    if chance.random() < 0.2:
        return str(chance.choice([one for one in HOSTILE if isinstance(one, str)]))
    letters = (
        "abcXYZ0129" if chance.random() < 0.3 else "ab0./\\-_~$%#'\"`;:&|<>(){}[]*?!=,@+ \t\n\r\0\x1b\x7fäß\u2028\u202e"
    )
    length = chance.choice((0, 1, 2, 3, 5, 8, 20, 300))
    text = "".join(chance.choice(letters) for _ in range(length))
    return text if chance.random() < 0.9 else text + chr(chance.choice((0x1F600, 0xD800, 0xFFFF, 0x10FFFF)))
