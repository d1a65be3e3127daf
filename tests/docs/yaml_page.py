"""docs/reference/yaml.md from the models in hpcbatch/spec: every field of every document, its type and its default."""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from hpcbatch.spec import base, component, compute, deployment, job_settings, ports, refs
from hpcbatch.spec.assets import Build, Data, Environment, Model
from hpcbatch.spec.base import Document
from hpcbatch.spec.compute import SLURM_FIELDS, Compute, MergeSettings, SlurmSettings
from hpcbatch.spec.deployment import (
    CodeConfiguration,
    ModelBatchDeployment,
    Resources,
    RetrySettings,
    Settings,
)
from hpcbatch.spec.endpoint import BatchEndpoint, Defaults
from tests.docs.markdown import code, filled, table

MEANINGS: Mapping[str, Mapping[str, str]] = tomllib.loads(Path(__file__).with_name("meanings.toml").read_text("utf-8"))
HEADER = ("field", "type", "default", "meaning")
_NAME_WORDS = "letters, digits, `.`, `_`, `-`; begins with a letter or digit"
PATTERNS = {
    base._NAME_PATTERN: "letters, digits and hyphens; begins with a letter, does not end with a hyphen",
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$": _NAME_WORDS,
}
RULES: Mapping[Any, str] = {
    base._whole: "", base._number: "", base._shortest: "", base._spelled: "", base._version: "", base._text_mapping: "",
    base._empty_mapping: "", base.lowered: "",
    compute._word: "a word",
    compute._constraint: "a word, or features joined by `&` and `|`",
    compute._time: "minutes, `MM:SS`, `HH:MM:SS` or `D-HH:MM:SS`",
    compute._setup: compute._LINE_RULE,
    deployment._file_name: "no `/`, at most 200 bytes",
    deployment._properties: "",
    deployment._variables: "names of letters, digits and `_`",
    component._lower: "", component._size: "", component._script_level: "",
    ports._type: "", ports._names: "", ports._present_output: "",
}  # fmt: skip
TYPES = {
    str: "text", int: "whole number", float: "number", bool: "true, false", dict: "mapping", list: "list", Any: "any",
}  # fmt: skip


def page() -> str:
    """The page, without the note that it is generated."""
    slurm = {name: SlurmSettings.model_fields[name] for name in SLURM_FIELDS}
    azure = {name: field for name, field in Compute.model_fields.items() if name not in SLURM_FIELDS}
    root = {name: field for name, field in Settings.model_fields.items() if name != "instance_count"}
    return filled(
        "yaml.md",
        word=compute._WORD_RULE.replace("_.:@,+=/[]*-", "`_.:@,+=/[]*-`,"),
        forms=", ".join(map(code, refs.FORMS.replace(" or ", ", ").split(", "))),
        endpoint=_fields(BatchEndpoint, Defaults, prefix="defaults."),
        deployment=_fields(ModelBatchDeployment),
        code_configuration=_fields(CodeConfiguration, prefix="code_configuration."),
        settings="\n".join(
            [_fields(Settings, prefix="settings."), _rows(RetrySettings, prefix="settings.retry_settings.")]
        ),
        resources=_fields(Resources, prefix="resources."),
        slurm_property=MEANINGS["ResourceProperties"]["slurm"],
        moved=", ".join(map(code, root)),
        model=_fields(Model),
        environment=_fields(Environment, Build, prefix="build."),
        data=_fields(Data),
        compute=table(HEADER, row_list(Compute, azure)),
        slurm=table(HEADER, row_list(SlurmSettings, slurm)),
        merge=_fields(MergeSettings, prefix="merge."),
        overrides=", ".join(map(code, job_settings.SETTINGS)),
    )


def _fields(model: type[Document], below: type[Document] | None = None, *, prefix: str = "") -> str:
    """The table of *model*; with *below* the fields of a part of it follow under *prefix*."""
    first = table(HEADER, row_list(model, model.model_fields, "" if below else prefix))
    return "\n".join([first, _rows(below, prefix=prefix)]) if below else first


def _rows(model: type[Document], *, prefix: str) -> str:
    return "\n".join(table(HEADER, row_list(model, model.model_fields, prefix)).splitlines()[2:])


def row_list(model: type[Document], fields: Mapping[str, FieldInfo], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """The rows of a table of *fields* of *model*."""
    for name, field in fields.items():
        words, rules = _described(field.annotation)
        rules = [*rules, *_rules(field.metadata)]
        limits = "; ".join(dict.fromkeys(filter(None, rules))).replace("; up to", " to")
        yield code(prefix + name), words + (f" ({limits})" if limits else ""), _default(field), meaning(model, name)


def meaning(model: type[Document], name: str) -> str:
    """What the field means; the class that declares it, or one that it inherits from, says so."""
    kinds = [kind.__name__ for kind in model.__mro__]
    found = next((MEANINGS[kind][name] for kind in kinds if name in MEANINGS.get(kind, {})), "")
    assert found, f"{kinds[0]}.{name} is new: say what it means in tests/docs/meanings.toml"
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value == {} or isinstance(value, Document):
        return ""
    return code(f"{value:g}" if isinstance(value, float) else str(value))


def _described(annotation: Any) -> tuple[str, list[str]]:
    """The type in words, and the rules that its values keep."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        words, rules = _described(inner)
        return words, [*rules, *_rules(metadata)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [_described(each) for each in typing.get_args(annotation) if each is not type(None)]
        return " or ".join(dict.fromkeys(words for words, _ in parts)), [rule for _, rules in parts for rule in rules]
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(code(str(each)) for each in typing.get_args(annotation)), []
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return "mapping", []
    origin = typing.get_origin(annotation) or annotation
    of = typing.get_args(annotation)
    if origin is list and of:
        return f"list of {_described(of[0])[0]}", []
    return TYPES[origin], []


def _rules(metadata: typing.Iterable[Any]) -> list[str]:
    found = []
    for each in metadata:
        if isinstance(each, FieldInfo):
            found += _rules(each.metadata)
        elif hasattr(each, "func") and each.func.__name__ != "<lambda>":
            assert each.func in RULES, f"{each.func} is new: say what it allows in tests/docs/yaml_page.py"
            found.append(RULES[each.func])
        else:
            found.append(_limit(each))
    return found


def _limit(each: Any) -> str:
    limits = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "min_length": "{}", "max_length": "up to {} characters"}
    for name, words in limits.items():
        value = getattr(each, name, None)
        if value is not None:
            return "" if (name, value) == ("min_length", 1) else words.format(value)
    pattern = getattr(each, "pattern", None)
    return PATTERNS[pattern] if pattern else ""
