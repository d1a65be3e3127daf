"""Options of remote places with credentials by reference: names of variables and of files, never what is in them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.fs.scan import read_document

# What libraries look up by themselves and what is no secret: it travels with a job that reads or writes remotely.
HARMLESS = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "FSSPEC_CONFIG_DIR",
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG", "STORAGE_EMULATOR_HOST",
    "AZURE_CONFIG_DIR", "AZURE_STORAGE_ACCOUNT_NAME",
)  # fmt: skip
# Secrets that libraries look up by themselves, and the option that refers to each: they stay behind unless named.
_IMPLICIT = {
    "s3": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"},
    "abfs": {"AZURE_STORAGE_ACCOUNT_KEY": "account_key", "AZURE_STORAGE_SAS_TOKEN": "sas_token",
             "AZURE_STORAGE_CONNECTION_STRING": "connection_string", "AZURE_CLIENT_SECRET": "client_secret"},
}  # fmt: skip
_SECRET = re.compile(r"key|secret|token|passw|passphrase|credential|sas|connection_string|auth|cookie", re.IGNORECASE)
_HARMLESS_WORDS = ("anon", "google_default", "cloud", "cache", "browser")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


def checked_options(options: Mapping[str, Any], field: str = "storage_options") -> dict[str, Any]:
    """*options* as a job may keep them. Raises SpecError for a secret that is written out, or no option."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = f"{field}.{key}"
        if not _NAME.match(str(key)):
            raise SpecError(f"{name} is no option's name.", hint="Options are those of fsspec.", field=name, found=key)
        if _reference(value):
            ((kind, text),) = value.items()
            found[key] = _checked_reference(name, kind, text)
        elif isinstance(value, Mapping):
            found[key] = checked_options(value, name)
        elif (_SECRET.search(str(key)) and not _harmless(value)) or _has_password(value):
            raise SpecError(
                f"{name} holds a secret that would be stored.",
                hint=f"Refer to it: --set {name}.env=VARIABLE, or {name}.file=PATH of a file that only you can read.",
                field=name, found="(not shown)", allowed="{env: VARIABLE} or {file: PATH}",
            )  # fmt: skip
        elif value is None or isinstance(value, bool | int | float | str):
            found[key] = _typed(value)
        else:
            raise SpecError(
                f"{name} is no plain value.", hint="Give text, a number, or true or false.", field=name,
                found=type(value).__name__, allowed="text, number, true, false, {env: VARIABLE}, {file: PATH}",
            )  # fmt: skip
    return found


def resolved_options(options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """*options* with what the references name. Raises SpecError, without the secret, where that is not there."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if _reference(value):
            ((kind, text),) = value.items()
            found[key] = _variable(text, environ) if kind == "env" else _file(text)
        else:
            found[key] = resolved_options(value, environ) if isinstance(value, Mapping) else value
    return found


def variables(options: Mapping[str, Any]) -> list[str]:
    """Names of the environment variables that *options* refer to."""
    found: list[str] = []
    for value in options.values():
        if _reference(value):
            found += [value["env"]] if "env" in value else []
        elif isinstance(value, Mapping):
            found += variables(value)
    return sorted(set(found))


def travelling_variables(
    places: Sequence[Mapping[str, Any]], environ: Mapping[str, str] = os.environ
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the environment variables that a job takes along to reach *places* with these options, and which of them
    hold secrets. Without a place: none.
    """
    secret = {name for options in places for name in variables(options)}
    harmless = {name for name in HARMLESS if places and name in environ}
    return tuple(sorted(secret | harmless)), tuple(sorted(secret))


def refuse_implicit(protocol: str, options: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> None:
    """Raises SpecError where this shell's variables hold secrets that listing would use and the job would not get."""
    known = _IMPLICIT.get(protocol, {})
    there = [name for name in known if environ.get(name)]
    given = {"anon", "profile", *known.values()} & options.keys()
    if there and not given and not environ.get("AWS_PROFILE"):
        named = " ".join(f"storage_options.{known[name]}.env={name}" for name in there)
        raise SpecError(
            f"{' and '.join(there)} of this shell would not reach the job: secrets do not travel by accident.",
            hint=f"Let them travel: --set {named}\nBetter, where it can be: a profile in ~/.aws/credentials, and "
            "AWS_PROFILE=NAME, which needs nothing else.",
            field="storage_options", found=there, allowed="{env: VARIABLE}, {file: PATH}, or a profile",
        )  # fmt: skip


def _reference(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and set(value) <= {"env", "file"}


def _checked_reference(name: str, kind: str, text: Any) -> dict[str, str]:
    if kind == "env" and not (isinstance(text, str) and _VARIABLE.match(text)):
        raise SpecError(
            f"{name}.env is no name of an environment variable.", hint=f"For example: --set {name}.env=MY_TOKEN",
            field=f"{name}.env", found="(not shown)", allowed="letters, digits and _",
        )  # fmt: skip
    if kind == "file":
        return {"file": os.path.abspath(os.path.expanduser(str(text)))}
    return {kind: str(text)}


def _harmless(value: Any) -> bool:
    return not isinstance(value, str) or value in ("", *_HARMLESS_WORDS)


def _has_password(value: Any) -> bool:
    return isinstance(value, str) and "://" in value and "@" in value.partition("://")[2].partition("/")[0]


def _typed(value: Any) -> Any:
    """`true` and `false` as `--set` gives them, which keeps all values text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name):
        raise SpecError(
            f"The environment variable {name}, which the storage options name, is not set.",
            hint=f"Set it, then run the same command again: export {name}=...", field="storage_options", found=name,
        )  # fmt: skip
    return environ[name]


def _file(path: str) -> str:
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
            raise SpecError(
                f"{path!r}, which the storage options name, is not a file that belongs to you and that only you can "
                "read.",
                hint=f"chmod 600 {path}", field="storage_options", found=path, allowed="a file of yours, mode 0600",
            )  # fmt: skip
        return read_document(Path(path), 1 << 20).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"{path!r}, which the storage options name, cannot be read: {error}", hint=f"Check its path: ls -l {path}",
            field="storage_options", found=path,
        ) from error  # fmt: skip
