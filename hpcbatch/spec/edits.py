"""What `update` does to a document: `--set`, `--add` and `--remove` with dotted paths, as az has them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.spec.yamlfile import FieldPath, Loaded, apply_sets, split_set

_LIST = "[]"


@dataclass(frozen=True)
class Edit:
    """Changes of one document: removals first, then values that replace, then values that are added.

    *sets* are `a.b=c`; *adds* too, where `a.b[]=c` appends to a list; *removes* are `a.b`, or `a.b.0` for the first
    element of a list.
    """

    sets: Sequence[str] = ()
    adds: Sequence[str] = ()
    removes: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.sets or self.adds or self.removes)

    @property
    def paths(self) -> frozenset[FieldPath]:
        """Every field that is changed."""
        values = [split_set(one.replace(f"{_LIST}=", "=", 1))[0] for one in (*self.sets, *self.adds)]
        return frozenset([*values, *(tuple(one.split(".")) for one in self.removes)])

    @property
    def top_fields(self) -> set[str]:
        """The fields of the document below which something is changed."""
        return {str(path[0]) for path in self.paths}

    def applied(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of *data* with the changes. Raises SpecError for what cannot be removed or added to."""
        result = copy.deepcopy(dict(data))
        for path in self.removes:
            _remove(result, path)
        result = apply_sets(result, [*self.sets, *(one for one in self.adds if not _is_element(one))])
        for text in self.adds:
            if _is_element(text):
                _append(result, text)
        return result

    def on(self, loaded: Loaded) -> Loaded:
        """The changed document, which knows that the changes came from the command line."""
        return replace(loaded, data=self.applied(loaded.data), overridden=loaded.overridden | self.paths)


def merge_documents(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """*below* with everything that *above* says; mappings are merged, anything else is replaced."""
    result = dict(below)
    for key, value in above.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merge_documents(before, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return result


def additions(words: Sequence[Sequence[str]]) -> list[str]:
    """What `--add` says: `tags.a=b` as it stands, az's `tags a=b` joined, `setup "module load x"` as an element."""
    found: list[str] = []
    for first, *rest in words:
        if "=" in first:
            found += [first, *rest]
            continue
        if not rest:
            raise SpecError(
                f"--add {first}: there is nothing to add.", hint="usage: --add tags team=vision",
                field=first, found=first, allowed="KEY VALUE, KEY NAME=VALUE or KEY.NAME=VALUE",
            )  # fmt: skip
        found += [f"{first}.{word}" if "=" in word else f"{first}{_LIST}={word}" for word in rest]
    return found


def removals(words: Sequence[Sequence[str]]) -> list[str]:
    """What `--remove` says: `tags.a` as it stands, az's `setup 0` (an element of a list) joined."""
    found: list[str] = []
    for one in words:
        for word in one:
            found.append(f"{found.pop()}.{word}" if word.isdigit() and found else word)
    return found


def _is_element(text: str) -> bool:
    return text.partition("=")[0].endswith(_LIST)


def _append(document: dict[str, Any], text: str) -> None:
    key, _, value = text.partition(f"{_LIST}=")
    *parents, last = key.split(".")
    at: Any = document
    for part in parents:
        at = at.setdefault(part, {}) if isinstance(at, dict) else None
    before = at.get(last) if isinstance(at, dict) else at
    if not isinstance(at, dict) or not isinstance(before, list | None):
        raise SpecError(
            f"--add {key} {value}: {key} is {before!r}, which is no list.",
            hint=f"Replace it: --set {key}=VALUE", field=key, found=before, allowed="a list",
        )  # fmt: skip
    at[last] = [*(before or []), value]


def _remove(document: dict[str, Any], path: str) -> None:
    at: Any = document
    *parents, last = path.split(".")
    for part in parents:
        at = at.get(part) if isinstance(at, dict) else None
    is_element = isinstance(at, list) and last.isdigit() and int(last) < len(at)
    if not is_element and not (isinstance(at, dict) and last in at):
        hint = "Name a field that `show` prints."
        raise SpecError(f"--remove {path}: there is no such field.", hint=hint, field=path)
    at.pop(int(last) if is_element else last)
