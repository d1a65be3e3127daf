"""Addresses of data that is not on a filesystem of the cluster: what each means to fsspec, and which are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hpcbatch.errors import SpecError

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(r"[A-Za-z0-9]+::")
_AZURE_HOST = re.compile(r"(?P<account>[a-z0-9]{3,24})\.(?:blob|dfs)\.core\.windows\.net\Z")
_AZURE = ("wasb", "wasbs", "abfs", "abfss", "az")
_NOT_READABLE = ("adl", "memory", "reference", "cached", "blockcache", "filecache", "simplecache", "dir", "zip", "tar")
# Names under which clouds and servers put a signature or a token into an address.
_SECRET_QUERY = re.compile(
    r"(?:^|[-_])(?:sig|signature|token|key|apikey|credential|secret|password|pwd|auth|code|jwt|sas)(?:$|[-_])|accesskey",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Address:
    """A place as fsspec opens it: `path` is without the protocol; `query` follows it."""

    protocol: str
    path: str
    query: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path}{self.query}" if self.protocol in ("http", "https") else f"{self.protocol}://{self.path}"


def is_remote(text: str) -> bool:
    """Whether *text* is an address of another place rather than a path of this filesystem."""
    return bool(_SCHEME.match(text) or _CHAIN.match(text)) and not text.lower().startswith("file://")


def local_path(text: str) -> str:
    """*text* without `file://`, if that stands in front."""
    return text[7:].removeprefix("localhost") if text.lower().startswith("file://") else text


def parse_address(text: str, *, field: str, listed: bool) -> Address:
    """The address in *text*; *listed* if what is below it will be listed, not read as one file.

    Raises SpecError, naming *field* and the way out, for addresses that carry a secret, for Azure's datastores, and for
    places that an array task cannot read.
    """
    _refuse_chains(text, field)
    match = _SCHEME.match(text)
    assert match is not None
    scheme = match["scheme"].lower()
    if scheme == "azureml":
        raise _datastore(text, field)
    if scheme in _NOT_READABLE:
        raise SpecError(
            f"{field}: {scheme}:// is a place that an array task cannot read.",
            hint=f"Copy it to the shared filesystem, or to a bucket or server: --{field} /shared/data",
            field=field, found=without_secrets(text), allowed="s3://, gs://, abfs://, https://, file:// or a path",
        )  # fmt: skip
    parts = urlsplit(text) if scheme in ("http", "https", *_AZURE, "ftp", "sftp") else None
    if parts is not None:
        _refuse_secrets(text, parts.password, parts.query, field)
        if parts.username and scheme in ("http", "https"):
            raise _carries("a user, which may be a token", text, field)
    elif "@" in (netloc := text[match.end() :].partition("/")[0]) and ":" in netloc.partition("@")[0]:
        _refuse_secrets(text, "yes", "", field)
    host = _AZURE_HOST.match((parts.hostname or "") if parts is not None else "")
    if parts is not None and scheme in _AZURE and host:
        return _blob(host["account"], parts.username or "", parts.path)
    if parts is not None and scheme in ("http", "https"):
        if host and listed:  # a server that lists nothing; Azure's own protocol does
            container, _, path = unquote(parts.path).lstrip("/").partition("/")
            return _blob(host["account"], container, path)
        path = f"{scheme}://{parts.netloc}{unquote(parts.path)}"
        return Address(scheme, path, f"?{parts.query}" if parts.query else "")
    return Address(scheme, text[match.end() :])


def without_secrets(text: str) -> str:
    """*text* fit for messages and files: no user, no password, no query."""
    head, mark, rest = text.partition("://")
    place, slash, path = rest.partition("/")
    return f"{head}{mark}{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}" if mark else text


def _blob(account: str, container: str, path: str) -> Address:
    joined = f"{container}/{path.lstrip('/')}".rstrip("/")
    return Address("abfs", joined, options={"account_name": account})


def _refuse_chains(text: str, field: str) -> None:
    if "::" in text:
        raise SpecError(
            f"{field}: chained addresses (`::`) are not possible.",
            hint="Name the place itself; archives have to be unpacked before.",
            field=field, found=without_secrets(text), allowed="one address",
        )  # fmt: skip


def _refuse_secrets(text: str, password: str | None, query: str, field: str) -> None:
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True) if _SECRET_QUERY.search(name)]
    if not password and not names:
        return
    what = "a password" if password else f"a secret (`{names[0]}=`)"
    raise _carries(what, text, field)


def _carries(what: str, text: str, field: str) -> SpecError:
    return SpecError(
        f"{field}: the address carries {what}. Whoever can read the job's files or the process list could use it.",
        hint="Give the address without it, and refer to the secret: --set storage_options.KEY.env=VARIABLE, or "
        "storage_options.KEY.file=PATH (docs/how-to/read-from-object-stores.md)",
        field=field, found=without_secrets(text), allowed="an address without user, password, token or signature",
    )  # fmt: skip


def _datastore(text: str, field: str) -> SpecError:
    match = re.search(r"/datastores/(?P<store>[^/]+)/paths/(?P<path>.*)", text)
    path = match["path"] if match else "PATH"
    store = f"the datastore {match['store']!r}" if match else "Azure ML"
    link = f"WORKSPACE/datastores/{match['store'] if match else 'NAME'}"
    return SpecError(
        f"{field}: {text!r} is known to {store} of an Azure ML workspace, not here.",
        hint=f"Name the container itself: --{field} https://ACCOUNT.blob.core.windows.net/CONTAINER/{path} "
        f"(az ml datastore show tells both), or copy it and name the folder: --{field} /shared/data\n"
        f"Or give this workspace a datastore: ln -s /shared/data {link}",
        field=field, found=text, allowed="https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH, abfs://, s3://, a path",
    )  # fmt: skip
