"""What the placeholders of a step's command become on this node, and what identifies it for reuse."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.fs import publish
from hpcbatch.ids import sha256
from hpcbatch.pipeline.command import Value
from hpcbatch.pipeline.reuse import literal, output_identity, producer
from hpcbatch.records.pipeline import PipelineRecord, PipelineStep, StepInput

FILE_TYPES = ("uri_file",)
COMPARE_UP_TO = (2 << 30, 100_000)  # bytes, files


@dataclass(frozen=True)
class Source:
    """One input of a step with everything looked up: its literal text, or the path or URL of its data."""

    value: Value
    type: str
    digest: str
    producer_key: str | None  # of the step run that made it
    options: Mapping[str, Any] = field(default_factory=dict)
    direct: bool = False

    @property
    def is_address(self) -> bool:
        """Whether it is a place that has to be fetched."""
        return self.value.is_path and not self.direct and "://" in self.value.text


def sources(step: PipelineStep, record: PipelineRecord, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Source]:
    """The inputs of *step*. Outputs of other steps are where the *results* of those say."""
    return {name: _source(found, record, results) for name, found in step.inputs.items()}


def _source(found: StepInput, record: PipelineRecord, results: Mapping[str, Mapping[str, Any]]) -> Source:
    text = literal(found, record)
    if text is not None:
        return Source(Value(text, is_path=False), found.type, "", None)
    made = producer(found)
    if made is not None:
        result = results[made[0]]
        key = output_identity(result["key"], made[1]) if result.get("key") else None
        return Source(Value(result["outputs"][made[1]], is_path=True), found.type, "", key)
    given = record.inputs[found.value] if found.kind == "input" else found
    value = Value(given.value.removeprefix("file://"), is_path=True)
    return Source(value, found.type, given.digest, None, given.options, found.direct)


def bring_inputs(step: PipelineStep, found: Mapping[str, Source], folder: Path) -> dict[str, Source]:
    """*found* with what is in another place fetched into *folder*; but for what *step* cuts into mini-batches, which
    are fetched one by one. Raises SpecError, FilesystemError.
    """
    brought = dict(found)
    cut = step.parallel.input if step.parallel else None
    for name, source in found.items():
        if name != cut and source.is_address:
            from hpcbatch.dataio.bring import bring  # fsspec, only where it is needed

            path = bring(source.value.text, source.type, folder / name, source.options)
            brought[name] = replace(source, value=Value(str(path), is_path=True))
    return brought


def check_inputs(step: PipelineStep, found: Mapping[str, Source]) -> None:
    """Raises SpecError for a path that is not there: before the command does, in words that say which input it is."""
    cut = step.parallel.input if step.parallel else None  # may be a pattern, and is listed before anything runs
    for name, source in found.items():
        path = source.value.text
        if name != cut and source.value.is_path and "://" not in path and not os.path.lexists(path):
            raise SpecError(
                f"Input {name!r} of step {step.name!r} is {path!r}, which does not exist on this node.",
                hint=f"Look at it there: ls -ld {path}", field=f"inputs.{name}", found=path, allowed="an existing path",
            )  # fmt: skip


def place_outputs(step: PipelineStep, base: Path, final: Mapping[str, str]) -> dict[str, Path]:
    """Make the folders below *base* that the command writes its outputs to; for a file the folder that it will lie in.

    A file that has a *final* path is written under the name that it will have there: programs go by suffixes.
    """
    placed = {}
    for name, output in step.outputs.items():
        path = base / name
        if output.type in FILE_TYPES and name in final:
            path = path / Path(final[name]).name
        publish.make_directory(path if output.type not in FILE_TYPES else path.parent)
        placed[name] = path
    return placed


def identities(found: Mapping[str, Source], limits: tuple[int, int] = COMPARE_UP_TO) -> dict[str, str] | None:
    """What identifies the content of each input; None if one cannot be compared: a URL, or more than *limits* (bytes,
    files) to read.
    """
    result = {}
    for name, source in found.items():
        identity = _identity(source, limits)
        if identity is None:
            return None
        result[name] = identity
    return result


def _identity(source: Source, limits: tuple[int, int]) -> str | None:
    if not source.value.is_path:
        return f"text:{source.value.text}"
    if source.producer_key:
        return f"step:{source.producer_key}"
    if source.digest:
        return f"digest:{source.digest}"
    if "://" in source.value.text or not os.path.lexists(source.value.text):  # a pattern names other files each time
        return None
    digest = content_digest(Path(source.value.text), limits)
    return f"content:{digest}" if digest else None


def content_digest(path: Path, limits: tuple[int, int] = COMPARE_UP_TO) -> str | None:
    """SHA-256 over the names and bytes of the file or folder *path*; None if it is too large to be read for this, or
    holds a link to a folder, whose files are not below *path*.
    """
    if path.is_file():
        return _file_digest(path) if path.stat().st_size <= limits[0] else None
    total, lines = 0, list[str]()
    for folder, folders, names in os.walk(path):
        if any(os.path.islink(os.path.join(folder, name)) for name in folders):
            return None
        folders.sort()
        for name in sorted(names):
            full = Path(folder) / name
            if not full.is_file():
                continue
            total += full.stat().st_size
            if total > limits[0] or len(lines) >= limits[1]:
                return None
            lines.append(f"{_file_digest(full)} {full.relative_to(path)}")
    return sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape"))


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
