"""What a driver sent of a mini-batch whose rows have types: their schema, and the rows as Arrow tables.

`scoring/row_formats.py` says what the payloads look like. pyarrow is imported where it is used.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from hpcbatch.errors import FileDamaged

if TYPE_CHECKING:
    import pyarrow as pa

Schema: TypeAlias = "pa.Schema"
Table: TypeAlias = "pa.Table"

ARROW_MAGIC, ROWS_MAGIC = b"hbarrow1", b"hbrows-1"
HEAD_BYTES = 16
_LENGTH = struct.Struct("<I")
_HINT = "Run: hpcbatch job resume"


def head_bytes(begin: bytes) -> int:
    """How many bytes of a payload that begins with *begin* (`HEAD_BYTES` of it) say what its columns are.

    Raises FileDamaged if it is no such payload.
    """
    if begin[:8] == ARROW_MAGIC and len(begin) == HEAD_BYTES:
        return HEAD_BYTES + int(_LENGTH.unpack_from(begin, 12)[0])  # 0xFFFFFFFF, the length of the schema's message
    if begin[:8] == ROWS_MAGIC and len(begin) >= 12:
        return 12 + int(_LENGTH.unpack_from(begin, 8)[0])
    raise FileDamaged("The rows of a mini-batch do not begin as typed rows do.", hint=_HINT)


def schema_of(head: bytes) -> Schema:
    """The columns and their types, of the first `head_bytes` of a payload. Raises FileDamaged."""
    import pyarrow as pa

    try:
        if head[:8] == ARROW_MAGIC:
            return pa.ipc.read_schema(pa.py_buffer(head[8:]))
        return pa.schema([(name, _type(kind)) for name, kind in json.loads(head[12:])["columns"]])
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        raise FileDamaged(f"The columns of a mini-batch cannot be read: {error}", hint=_HINT) from error


def tables_of(payload: Any) -> Iterator[Table]:
    """The rows of a whole payload, whose checksum was right; *payload* is bytes or an Arrow buffer."""
    import pyarrow as pa

    view = memoryview(payload)
    if view[:8] == ARROW_MAGIC:
        with pa.ipc.open_stream(pa.py_buffer(payload).slice(8)) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
        return
    size = head_bytes(bytes(view[:HEAD_BYTES]))
    schema = schema_of(bytes(view[:size]))
    lines = bytes(view[size:]).decode().splitlines()
    arrays = [_array(json.loads(text), field.type) for text, field in zip(lines, schema, strict=True)]
    yield pa.Table.from_arrays(arrays, schema=schema)


def _type(kind: str) -> Any:
    import pyarrow as pa

    known = {
        "null": pa.null(), "bool": pa.bool_(), "float": pa.float32(), "double": pa.float64(),
        "string": pa.string(), "json": pa.string(), "binary": pa.binary(), "date32[day]": pa.date32(),
        "timestamp[us]": pa.timestamp("us"), "timestamp[ns]": pa.timestamp("ns"),
        "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"), "timestamp[ns, tz=UTC]": pa.timestamp("ns", "UTC"),
    }  # fmt: skip
    return known[kind] if kind in known else pa.type_for_alias(kind)


def _array(cells: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_binary(kind):
        return pa.array([None if cell is None else base64.b64decode(cell) for cell in cells], kind)
    if pa.types.is_temporal(kind):
        return pa.array(cells, pa.string()).cast(kind)
    return pa.array(cells, kind)
