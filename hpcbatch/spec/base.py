"""The base of all documents, and the one way from pydantic's errors to ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import ErrorDetails, PydanticCustomError

from hpcbatch.errors import SpecError
from hpcbatch.spec.yamlfile import FieldPath, Loaded

_NAME_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
_ASSET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$"
READ_ONLY = ("$schema", "id", "provisioning_state", "provisioning_details", "creation_context")


class Document(BaseModel):
    """A frozen document that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


D = TypeVar("D", bound=Document)


def wrong(message: str, allowed: str) -> PydanticCustomError:
    """What a validator raises: *message* says what is wrong, *allowed* what would be right."""
    return PydanticCustomError("hpcbatch", "{message}", {"message": message, "allowed": allowed})


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise wrong(f"{str(value).lower()} is not a whole number", "a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise wrong(f"{str(value).lower()} is not a number", "a number")
    return value


def _shortest(value: Any) -> Any:
    """A whole number without `.0`, as Azure ML shows it; the field may hold something else than a number, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _spelled(value: Any) -> Any:
    """Numbers and booleans as the text the user typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(getattr(value, "source", value))
    return value


def _version(value: Any) -> Any:
    return _spelled(value) if not isinstance(value, bool) else value


def _text_mapping(value: Any) -> Any:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(key): "" if one is None else _spelled(one) for key, one in value.items()}
    return value


def _empty_mapping(value: Any) -> Any:
    return {} if value is None else value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number), PlainSerializer(_shortest)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Text = Annotated[str, BeforeValidator(_spelled)]
AssetName = Annotated[str, Field(pattern=_ASSET_PATTERN)]
Version = Annotated[str, BeforeValidator(_version), Field(pattern=_ASSET_PATTERN)]
RouteName = Annotated[str, Field(pattern=_NAME_PATTERN, min_length=3, max_length=32)]
TextMapping = Annotated[dict[str, str], BeforeValidator(_text_mapping)]
FreeMapping = Annotated[dict[str, Any], BeforeValidator(_empty_mapping)]


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z0-9])(?=[A-Z][a-z])")


def lowered(value: Any) -> Any:
    """Azure compares these words without regard to case, `_` and `-`: `AppendRow`, `append_row`."""
    if not isinstance(value, str):
        return value
    return _HUMP.sub("_", value).lower().replace("-", "_")


COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a document."""

    message: str
    file: str | None
    line: int | None
    field: str
    found: Any
    allowed: Any
    hint: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else f"{COMMAND_LINE}: " if self.file == COMMAND_LINE else ""
        return f"{where}{self.message} {self.hint or _allowed_text(self)}".rstrip()


def parse(model: type[D], source: Loaded | Mapping[str, Any], *, file: str | None = None) -> D:
    """*source* as a *model*. Raises one SpecError that lists each problem: line, field, what was found, what may be."""
    data = dict(source.data if isinstance(source, Loaded) else source)
    for key in READ_ONLY:
        if key not in model.model_fields:
            data.pop(key, None)
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        loaded = source if isinstance(source, Loaded) else None
        problems = sorted(
            (_problem(model, data, loaded, one) for one in error.errors(include_url=False)), key=lambda p: p.line or 0
        )
    raise spec_error(problems, file=loaded.file if loaded else file)


def not_allowed(loaded: Loaded, path: tuple[str | int, ...], found: Any, allowed: str) -> SpecError:
    """The SpecError for the value *found* at *path*, named as the user wrote it, where only *allowed* may be."""
    written = (*loaded.written_as.get((), ()), *path)
    field = ".".join(map(str, written))
    return SpecError(
        f"{field}: {str(found)[:80]!r} is not allowed.",
        hint=f"Allowed: {allowed}. Correct {loaded.file}, and run the same command again.",
        file=loaded.file,
        line=loaded.lines.get(written),
        field=field,
        found=found,
        allowed=allowed,
    )


def spec_error(problems: list[Problem], *, file: str | None) -> SpecError:
    """The SpecError that says all of *problems* at once; its fields are those of the first."""
    first = problems[0]
    message, hint = first.message, " ".join(part for part in (first.hint, _allowed_text(first)) if part)
    if len(problems) > 1:
        message, hint = "\n  ".join([f"{len(problems)} problems:", *map(str, problems)]), ""
    else:
        file = first.file or file
    return SpecError(
        message,
        hint=f"{hint} Correct {file or 'it'}, and run the same command again.".strip(),
        file=file,
        line=first.line,
        field=first.field,
        found=first.found,
        allowed=first.allowed,
        problems=[vars(problem) for problem in problems],
    )


def _allowed_text(problem: Problem) -> str:
    return f"Allowed: {problem.allowed}." if problem.allowed else ""


def _problem(model: type[Document], data: Mapping[str, Any], loaded: Loaded | None, error: ErrorDetails) -> Problem:
    path = _path(data, error)
    found = _at(data, path)
    message, allowed, hint = _explain(error, model, path, found)
    if loaded is None:
        return Problem(f"{_dotted(path)}{message}", None, None, ".".join(map(str, path)), found, allowed, hint)
    written = next((to + path[len(at) :] for at, to in loaded.written_as.items() if path[: len(at)] == at), path)
    overridden = any(written[: len(one)] == one for one in loaded.overridden)
    file = COMMAND_LINE if overridden else loaded.file
    line = None if overridden else _line(loaded, written)
    return Problem(f"{_dotted(written)}{message}", file, line, ".".join(map(str, written)), found, allowed, hint)


def _dotted(path: FieldPath) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""


def _path(data: Mapping[str, Any], error: ErrorDetails) -> FieldPath:
    """Where in *data* the error is; pydantic also names the branches of unions, which are no fields."""
    path: FieldPath = tuple(part for part in error["loc"] if not str(part).startswith("~"))
    if error["type"] in ("missing", "extra_forbidden"):
        return path
    known: FieldPath = ()
    at: Any = data
    for part in path:
        if not (isinstance(at, Mapping) and part in at) and not (isinstance(at, list) and isinstance(part, int)):
            break
        at, known = at[part], (*known, part)  # type: ignore[index]  # one of the two containers
    return known


def _explain(error: ErrorDetails, model: type[Document], path: FieldPath, found: Any) -> tuple[str, str | None, str]:
    """The message, what is allowed, and a guess at what was meant."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        fields = _fields_at(model, path[:-1])
        elsewhere = [".".join(one) for one in _all_fields(model) if one[-1] == path[-1]]
        return "unknown field.", ", ".join(fields), _guess(elsewhere or _near(str(path[-1]), fields))
    if kind == "missing":
        return "is required, and not there.", None, ""
    if kind == "hpcbatch":
        return f"{context['message']}.", str(context["allowed"]), ""
    if kind == "literal_error":
        words = str(context["expected"])
        return f"{_short(found)} is not allowed.", words, _guess(_near(str(found), re.findall(r"'([^']*)'", words)))
    return f"{_short(found)} is not allowed.", _allowed(kind, context, error["msg"]), ""


def _near(word: str, words: list[str]) -> list[str]:
    return difflib.get_close_matches(word, words, n=1, cutoff=0.65)  # `status` is not meant by `tags`


def _guess(words: list[str]) -> str:
    return f"Did you mean {words[0]!r}?" if words else ""


def _allowed(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind == "string_pattern_mismatch" and context["pattern"] == _NAME_PATTERN:
        return "3 to 32 letters, digits and hyphens, beginning with a letter, not ending with a hyphen"
    if kind == "string_pattern_mismatch" and context["pattern"] == _ASSET_PATTERN:
        return "at most 255 letters, digits, '.', '_' and '-', beginning with a letter or digit"
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    if kind in ("string_too_short", "string_too_long"):
        return "3 to 32 letters, digits and hyphens"
    texts = {
        "greater_than_equal": f"a number >= {context.get('ge')}",
        "greater_than": f"a number > {context.get('gt')}",
        "less_than_equal": f"a number <= {context.get('le')}",
        "string_type": "text (quote it)",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "list_type": "a list",
    }
    if kind.startswith("int_"):
        return "a whole number"
    if kind.startswith(("float_", "finite_")):
        return "a number"
    return texts.get(kind, message)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | bool | type(None)) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _at(data: Any, path: FieldPath) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _line(loaded: Loaded, path: FieldPath) -> int | None:
    """The line of *path*, or of the nearest field around it that is in the file."""
    while path and path not in loaded.lines:
        path = path[:-1]
    return loaded.lines.get(path)


def _document_in(annotation: Any) -> type[Document] | None:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return annotation
    return next((found for one in get_args(annotation) if (found := _document_in(one))), None)


def _fields_at(model: type[Document], path: FieldPath) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        below = _document_in(field.annotation) if field else None
        if below is None:
            return []
        model = below
    return sorted(model.model_fields)


def _all_fields(model: type[Document], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*at, name)
        below = _document_in(field.annotation)
        if below and len(at) < 3:
            yield from _all_fields(below, (*at, name))
