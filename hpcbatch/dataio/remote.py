"""Other places through fsspec: open them with credentials by reference, list what is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from hpcbatch.dataio.addresses import Address
from hpcbatch.dataio.credentials import resolved_options
from hpcbatch.dataio.patterns import has_magic, parse_pattern, split_pattern
from hpcbatch.errors import FilesystemError, HpcBatchError, SpecError
from hpcbatch.records.job import RemotePart

_PACKAGES = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs"),
             "abfs": ("adlfs", "azure"), "abfss": ("adlfs", "azure"), "az": ("adlfs", "azure"),
             "http": ("aiohttp", "http"), "https": ("aiohttp", "http"),
             "sftp": ("paramiko", "sftp"), "ssh": ("paramiko", "sftp")}  # fmt: skip
_TAGS = ("ETag", "etag", "e_tag", "generation", "md5Hash", "md5", "checksum", "Last-Modified")
WITHOUT_FOLDERS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
_MAX_SHOWN = 5


def open_place(protocol: str, options: Any) -> Any:
    """Fsspec's filesystem for *protocol*; raises SpecError where the library for it is not installed.

    Nothing is listed from a cache: what is there now counts.
    """
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package, extra = _PACKAGES.get(protocol, ("", ""))
        install = f"pip install 'hpcbatch[{extra}]'" if extra else f"Install what it needs: {error}"
        raise SpecError(
            f"{protocol}:// needs {package or 'a library'}, which is not installed here.", hint=install,
            field="input", found=f"{protocol}://", allowed="a protocol whose library is installed",
        ) from error  # fmt: skip
    except ValueError as error:
        raise SpecError(
            f"{protocol}:// is not known.", hint="Known are, among others: s3://, gs://, abfs://, https://, sftp://.",
            field="input", found=f"{protocol}://", allowed="a protocol of fsspec",
        ) from error  # fmt: skip
    given = {"use_listings_cache": False, "skip_instance_cache": True, **resolved_options(options)}
    try:
        return kind(**given)
    except TypeError as error:
        raise SpecError(
            f"{protocol}:// needs options that an address does not tell: {error}.",
            hint="For example: --set storage_options.host=HOST", field="storage_options", found=sorted(given),
            allowed=f"what fsspec's {kind.__name__} takes",
        ) from error  # fmt: skip


def list_place(address: Address, kind: str, options: dict[str, Any]) -> tuple[RemotePart, list[bytes], list[bytes]]:
    """The place that holds the items of *address*, their names below it in input order, and their stamps.

    `uri_folder` lists everything below, or what a pattern matches; `uri_file` is that one item. Listing goes page by
    page (1000 keys a request on S3). Raises SpecError for what is not there or cannot become a local path,
    FilesystemError for what the place refuses.
    """
    with explained(str(address)):
        place = open_place(address.protocol, options)
        if kind == "uri_file":
            return _one(place, address, options)
        pattern = None
        base = address.path
        if _is_pattern(address):
            folder, rest = split_pattern(base.encode())
            base, pattern = folder.decode(), parse_pattern(rest)
        root = _root(place, address.protocol, base)
        found = _below(place, address.protocol, root)
        names = [name for name in found if pattern is None or pattern.matches(name)]
    if not names:
        raise _nothing(address, matched=pattern is not None)
    names.sort(key=lambda name: name.split(b"/"))
    _refuse_impossible(names)
    return RemotePart(address.protocol, root, "", options), names, [found[name] for name in names]


def stamp(info: dict[str, Any]) -> bytes:
    """`SIZE TAG` from what listing says of an item; parts that it does not tell are empty."""
    size = info.get("size")
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    return f"{'' if size is None else int(size)} {tag}".replace("\0", "").encode()


def location(part: RemotePart, name: str) -> str:
    """What fsspec opens for the item *name* of *part*."""
    if part.protocol in ("http", "https"):
        return f"{part.root}{quote(name)}{part.query}"
    return f"{part.root}{name}"


def shown(part: RemotePart, name: str = "") -> str:
    """The address of *name* in *part*, for people; of *part* itself without one."""
    return f"{part.root}{name}" if "://" in part.root else f"{part.protocol}://{part.root}{name}"


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the libraries raise about *what* into our errors, cause in one line, no secrets."""
    try:
        yield
    except HpcBatchError:
        raise
    except FileNotFoundError as error:
        raise SpecError(
            f"{what!r} does not exist.", hint="Check the address, and who may see it (profile, endpoint_url, anon).",
            field="input", found=what,
        ) from error  # fmt: skip
    except Exception as error:  # each library has a tree of its own
        raise FilesystemError(
            f"Cannot use {what!r}: {type(error).__name__}: {one_line(error)}",
            hint="Check address, network and credentials; storage_options are described in "
            "docs/how-to/read-from-object-stores.md",
            path=what,
        ) from error


def one_line(error: BaseException) -> str:
    """What *error* says, in one line of at most 300 characters."""
    return " ".join((str(error) or type(error).__name__).split())[:300]


def holds(part: RemotePart, name: str) -> bool:
    """Whether something is in the place under *name*. Raises FilesystemError if the place refuses to say."""
    with explained(shown(part, name)):
        return bool(open_place(part.protocol, part.options).exists(f"{part.root}{name}"))


def output_place(address: Address, options: dict[str, Any]) -> RemotePart:
    """The place that *address* names as a folder for outputs. Raises SpecError where nothing can be written."""
    if address.protocol in ("http", "https") or address.query:
        raise SpecError(
            f"Nothing can be written to {str(address)!r}.",
            hint="Give a folder or a bucket: --output-path /shared/results/run-1, --output-path s3://BUCKET/run-1",
            field="output_path", found=str(address), allowed="a folder, s3://, gs://, abfs://, sftp://",
        )  # fmt: skip
    place = open_place(address.protocol, options)
    return RemotePart(address.protocol, _root(place, address.protocol, address.path), "", options)


def _is_pattern(address: Address) -> bool:
    """In web addresses `*` alone is special: `?` begins a query and brackets are plain."""
    return "*" in address.path if address.protocol in ("http", "https") else has_magic(address.path)


def _root(place: Any, protocol: str, path: str) -> str:
    if protocol in ("http", "https"):
        return path.rstrip("/") + "/"
    return str(place._strip_protocol(f"{protocol}://{path}")).rstrip("/") + "/"  # noqa: SLF001  # fsspec's own word


def _one(place: Any, address: Address, options: dict[str, Any]) -> tuple[RemotePart, list[bytes], list[bytes]]:
    root, _, name = address.path.rstrip("/").rpartition("/")
    part = RemotePart(address.protocol, root + "/", address.query, options)
    if not name or address.path.endswith("/"):
        raise _not_a_file(address)
    info = place.info(location(part, name))
    if info.get("type") == "directory":
        raise _not_a_file(address)
    return part, [name.encode()], [stamp(info)]


def _not_a_file(address: Address) -> SpecError:
    return SpecError(
        f"Input {str(address)!r} is a folder, but its type is uri_file.",
        hint=f"Pass it as a folder: --input {address} --input-type uri_folder",
        field="input", found=str(address), allowed="a file",
    )  # fmt: skip


def _below(place: Any, protocol: str, root: str) -> dict[bytes, bytes]:
    """Names and stamps of all that is below *root*."""
    web = protocol in ("http", "https")
    listed = place.find(root if web else root.rstrip("/"), detail=True)
    if web and not listed:
        place.ls(root)  # raises what find() leaves out: a server that does not answer, or an address that is not there
    found: dict[bytes, bytes] = {}
    for full, info in listed.items():
        name = str(full)[len(root) :] if str(full).startswith(root) else ""
        if web:
            from urllib.parse import unquote

            name = "" if "?" in name or "#" in name or name.startswith("/") else unquote(name)
        if name and not name.endswith("/") and info.get("type") != "directory":
            found[name.encode()] = stamp(info)
    return found


def _refuse_impossible(names: list[bytes]) -> None:
    """Keys that cannot be local paths: the script gets each under its own name."""
    known = set(names)
    wrong = []
    for name in names:
        parts = name.split(b"/")
        strange = any(part in (b"", b".", b"..") or len(part) > 255 or b"\0" in part for part in parts)
        if strange or any(b"/".join(parts[:end]) in known for end in range(1, len(parts))):
            wrong.append(name.decode())
    if wrong:
        more = f" and {len(wrong) - _MAX_SHOWN} more" if len(wrong) > _MAX_SHOWN else ""
        raise SpecError(
            f"These names cannot be paths of files: {', '.join(map(repr, wrong[:_MAX_SHOWN]))}{more}.",
            hint="Parts that are empty, '.' or '..', and files below a file, are not possible: rename them, or leave "
            "them out with a pattern: --input 's3://BUCKET/FOLDER/*.csv'",
            field="input", found=wrong[:1000], allowed="names that can be paths",
        )  # fmt: skip


def _nothing(address: Address, *, matched: bool) -> SpecError:
    what = "matches no file" if matched else "holds no file"
    one = f"Pass one file: --input {address} --input-type uri_file"
    hint = f"The server may list nothing. {one}" if address.protocol in ("http", "https") else one
    return SpecError(
        f"Input {str(address)!r} {what}, so there is nothing to score.", hint=hint, field="input", found=str(address),
        allowed="a place with at least one file",
    )  # fmt: skip
