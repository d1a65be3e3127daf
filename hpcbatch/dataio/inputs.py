"""List the items behind an input, in the one order that every run of it has."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.dataio.addresses import Address
from hpcbatch.dataio.patterns import Pattern, States, has_magic, parse_pattern, split_pattern
from hpcbatch.errors import SpecError
from hpcbatch.fs.publish import filesystem_error
from hpcbatch.records.job import RemotePart


@dataclass(frozen=True)
class Items:
    """The items of one input: *names* (bytes, below *root*), sorted folder by folder. Items of another place have a
    stamp each, by which a change is noticed. *broken* are symbolic links that lead nowhere, and so are no items.
    """

    root: str
    names: list[bytes]
    stamps: list[bytes] | None = None
    remote: RemotePart | None = None
    broken: tuple[bytes, ...] = ()


def list_items(path: str, kind: str) -> Items:
    """The items behind *path* (`uri_folder`: every file below it, or all that a pattern matches; `uri_file`: that one
    file). A pattern is what does not exist and holds `*`, `?` or `[`.

    Files come in the byte order of their path's parts, nested folders included; symbolic links are followed, but a
    folder that contains itself is entered once. Raises SpecError for a missing, empty or wrong kind of path.
    """
    if not path:
        raise SpecError(
            "The input is empty: no path was given.", hint="Name the data: --input PATH; is the shell variable set?",
            field="input", found=path, allowed="a path",
        )  # fmt: skip
    full = os.path.abspath(os.path.expanduser(path))
    try:
        mode = os.stat(full).st_mode
    except FileNotFoundError as error:
        if has_magic(full) and kind == "uri_folder":
            return _matched(path, os.fsencode(full))
        raise SpecError(
            f"Input {path!r} does not exist (looked at {full!r}).",
            hint="Give an existing file or folder: --input PATH [--input-type uri_folder|uri_file]",
            field="input", found=path,
        ) from error  # fmt: skip
    except OSError as error:
        raise filesystem_error(error, full) from error
    if kind == "uri_file":
        return _one_file(path, full, mode)
    if not stat.S_ISDIR(mode):
        raise SpecError(
            f"Input {path!r} is a file, but its type is uri_folder.",
            hint=f"Pass it as a file: --input {path} --input-type uri_file",
            field="input", found=path, allowed="a folder",
        )  # fmt: skip
    broken: list[bytes] = []
    names = list(_walk(os.fsencode(full), broken))
    if not names:
        raise SpecError(
            f"Input folder {path!r} holds no file, so there is nothing to score.",
            hint=f"Look at it: ls -R {path}",
            field="input", found=path, allowed="a folder with at least one file",
        )  # fmt: skip
    return Items(full.rstrip("/") + "/", names, broken=tuple(broken))


def list_address(address: Address, kind: str, options: Mapping[str, Any]) -> Items:
    """The items behind an address of another place; raises as `list_items`, and for a place that refuses."""
    from hpcbatch.dataio import remote

    part, names, stamps = remote.list_place(address, kind, {**address.options, **options})
    return Items(remote.shown(part), names, stamps, part)


def _matched(path: str, full: bytes) -> Items:
    folder, rest = split_pattern(full)
    top, pattern, broken = folder.rstrip(b"/") or b"/", parse_pattern(rest), list[bytes]()
    names = list(_walk_matching(top, pattern, broken)) if os.path.isdir(folder) else []
    if not names:
        raise SpecError(
            f"Input {path!r} matches no file.",
            hint=f"Look at the folder: ls -R {os.fsdecode(folder)} (put the pattern into quotes)",
            field="input", found=path, allowed="a pattern that matches at least one file",
        )  # fmt: skip
    return Items(os.fsdecode(folder), names, broken=tuple(broken))


def _one_file(path: str, full: str, mode: int) -> Items:
    if stat.S_ISDIR(mode):
        raise SpecError(
            f"Input {path!r} is a folder, but its type is uri_file.",
            hint=f"Pass it as a folder: --input {path} --input-type uri_folder",
            field="input", found=path, allowed="a file",
        )  # fmt: skip
    return Items(str(Path(full).parent).rstrip("/") + "/", [os.fsencode(Path(full).name)])


_Identity = tuple[int, int]
# What an NFS client calls a file that was removed while somebody has it open: the inode and a counter, in hexadecimal.
_NFS_LEFT_OVER = re.compile(rb"\.nfs[0-9A-Fa-f]{16,24}")


def _walk(top: bytes, broken: list[bytes]) -> Iterator[bytes]:
    """Paths of the files below *top*, relative to it; depth first, each folder sorted; no stat of a plain file. Links
    that lead nowhere are added to *broken*.
    """
    stack: list[tuple[bytes, bytes, tuple[_Identity, ...]]] = [(b"", top, ())]
    while stack:
        prefix, folder, above = stack.pop()
        if not folder:
            yield prefix
            continue
        here, folders, files, nowhere = _listed(folder, above)
        broken += [prefix + name for name in nowhere]
        if not folders:
            yield from [prefix + name for name in files]
            continue
        for name in sorted([*files, *folders], reverse=True):
            inner = folder + b"/" + name if name in folders else b""
            stack.append((prefix + name + (b"/" if inner else b""), inner, here))


def _walk_matching(top: bytes, pattern: Pattern, broken: list[bytes]) -> Iterator[bytes]:
    """As `_walk`, for the files that *pattern* matches; folders in which none can be are not read."""
    stack: list[tuple[bytes, bytes, tuple[_Identity, ...], States]] = [(b"", top, (), pattern.start)]
    while stack:
        prefix, folder, above, states = stack.pop()
        if not folder:
            yield prefix
            continue
        here, folders, files, nowhere = _listed(folder, above)
        broken += [prefix + name for name in nowhere if pattern.accepts(pattern.step(states, name))]
        for name in sorted([*files, *folders], reverse=True):
            after = pattern.step(states, name)
            if after and name in folders:
                stack.append((prefix + name + b"/", folder + b"/" + name, here, after))
            elif after and pattern.accepts(after):
                stack.append((prefix + name, b"", here, after))


_Level = tuple[tuple[_Identity, ...], set[bytes], list[bytes], list[bytes]]


def _listed(folder: bytes, above: tuple[_Identity, ...]) -> _Level:
    """*folder* as the innermost of *above*, and its entries. Raises FilesystemError."""
    try:
        info = os.stat(folder)
        here = (*above, (info.st_dev, info.st_ino))
        return here, *_entries(folder, here)
    except OSError as error:
        raise filesystem_error(error, os.fsdecode(folder)) from error


def _entries(folder: bytes, above: tuple[_Identity, ...]) -> tuple[set[bytes], list[bytes], list[bytes]]:
    """Names of the folders, of the files and of the links to nothing in *folder*, sorted but for the folders; a link
    back to a folder *above* is left out.
    """
    folders, files, nowhere = set(), [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if not entry.is_symlink() or (entry.stat().st_dev, entry.stat().st_ino) not in above:
                    folders.add(entry.name)
            elif entry.is_file():
                if not (entry.name.startswith(b".nfs") and _NFS_LEFT_OVER.fullmatch(entry.name)):
                    files.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                nowhere.append(entry.name)
    return folders, sorted(files), sorted(nowhere)
