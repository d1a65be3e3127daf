"""Tables of many mini-batches as one Parquet file: one schema for all, row groups of bounded size.

pyarrow is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Schema: TypeAlias = "pa.Schema"
Table: TypeAlias = "pa.Table"

GROUP_BYTES = 32 << 20
GROUP_ROWS = 1 << 20
WRITE_BYTES = 1 << 20
_LONG_ROWS = 1 << 12


class NoCommonType(Exception):
    """A column has values that no one type holds."""

    def __init__(self, column: str, found: str, other: str) -> None:
        super().__init__(column, found, other)
        self.column = column
        self.found = found
        self.other = other


class Columns:
    """The columns of all mini-batches seen so far, in the order in which they were first seen.

    Equal types stay; nothing but nulls takes any other type; whole numbers of two sizes take the larger, whole numbers
    and others take double; structures are united field by field. What remains is NoCommonType.
    """

    def __init__(self) -> None:
        self._types: dict[str, Any] = {}

    def add(self, schema: Schema) -> None:
        """Unite with *schema*. Raises NoCommonType."""
        for column in schema:
            known = self._types.get(column.name)
            self._types[column.name] = column.type if known is None else _common(column.name, known, column.type)

    def schema(self) -> Schema:
        """One schema that takes all rows; a column of nothing but nulls is one of text."""
        import pyarrow as pa

        kinds = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in self._types.items()}
        return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def _common(column: str, one: Any, other: Any) -> Any:
    import pyarrow as pa

    if one.equals(other):
        return one
    kinds = [one, other]
    if any(map(pa.types.is_null, kinds)):
        return other if pa.types.is_null(one) else one
    if any(map(pa.types.is_floating, kinds)) and all(pa.types.is_floating(k) or pa.types.is_integer(k) for k in kinds):
        return pa.float64()
    lossy = [(pa.types.is_decimal, pa.types.is_floating), (_is_text, _is_bytes)]  # which Arrow would unite
    try:
        if any(any(map(a, kinds)) and any(map(b, kinds)) for a, b in lossy):
            raise TypeError
        schemas = [pa.schema([pa.field(column, kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, TypeError):
        raise NoCommonType(column, str(other), str(one)) from None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class CannotConvert(Exception):
    """A value does not fit the type that its column has for all mini-batches."""


def fitted(table: Table, schema: Schema) -> Table:
    """*table* with the columns and types of *schema*; what it lacks is null. Raises CannotConvert rather than lose a
    bit.
    """
    import pyarrow as pa

    columns = []
    for field in schema:
        at = table.schema.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(len(table), field.type))
            continue
        try:
            column = table.column(at)
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except pa.ArrowException as error:
            raise CannotConvert(f"column {field.name!r} as {field.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def grouped(tables: Iterable[Table]) -> Iterator[Table]:
    """The rows of *tables* in larger tables for one row group each, whose bounds depend on the rows alone."""
    import pyarrow as pa

    waiting: list[Table] = []
    rows = size_bytes = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        size_bytes += table.nbytes
        if size_bytes >= GROUP_BYTES or rows >= GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting, rows, size_bytes = [], 0, 0
    if rows:
        yield pa.concat_tables(waiting)


class ParquetFile:
    """Writes tables of one schema as row groups: the same tables are the same bytes."""

    def __init__(self, write: Callable[[bytes], object], schema: Schema) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # What costs time and saves nothing is left out: dictionaries of numbers, the compression of fractions, the
        # smallest and the largest text.
        texts = [f.name for f in schema if _is_text(f.type)]
        ordered = [f.name for f in schema if f.name not in texts]
        packed = {f.name: "none" if pa.types.is_floating(f.type) else "snappy" for f in schema}
        nested = any(pa.types.is_nested(f.type) for f in schema)  # their parts have names of their own
        self._sink = _Sink(write)
        # Pages are small: without this each would wait for the interpreter, which other threads use.
        self._gathered = pa.BufferedOutputStream(pa.PythonFile(self._sink, mode="w"), WRITE_BYTES)
        self._writer = pq.ParquetWriter(
            self._gathered, schema, compression="snappy" if nested or not packed else packed,
            use_dictionary=texts or False, write_statistics=ordered or False,
        )  # fmt: skip

    def add(self, group: Table) -> None:
        """Append *group* as one row group."""
        if group.column(0).num_chunks * _LONG_ROWS > len(group):  # one copy is cheaper than many short runs of rows
            group = group.combine_chunks()
        self._writer.write_table(group, row_group_size=len(group))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()
        self._gathered.close()

    def abandon(self) -> None:
        """Write nothing any more: left alone, pyarrow would write the footer some time later, to whatever file has
        taken the place of this one.
        """
        self._sink.end()
        self._writer.close()
        self._gathered.close()


class _Sink:
    """What pyarrow takes for a file that is only ever appended to."""

    closed = False

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._at = 0

    def end(self) -> None:
        """What is written from now on goes nowhere."""
        self._write = len

    def write(self, data: bytes) -> int:
        self._write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """The file belongs to who gave `write`."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


__all__: Sequence[str] = ["CannotConvert", "Columns", "NoCommonType", "ParquetFile", "fitted", "grouped"]
