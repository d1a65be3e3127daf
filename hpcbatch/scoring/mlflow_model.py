"""The scoring script of MLflow models that have none: one predict() per file, by the mlflow of their environment.

It is put into the job where a user's own script would be, and the driver runs it like one. One file, Python 3.8 or
newer; imports the standard library and what the model's environment has: mlflow, pandas, numpy, for images Pillow.

    .csv .parquet .pqt .jsonl                read into a DataFrame          row,prediction,file
    .png .jpg .jpeg .tiff .bmp .gif          read into an array, one image  prediction,file

A mini-batch is scored whole or not at all: what is wrong with one of its files fails it, under the name of the file.
"""

from __future__ import annotations

import json
import os
import sys

MYPY = False  # true for the type checker only, as in the driver
if MYPY:
    from typing import Any

TABULAR = (".csv", ".parquet", ".pqt", ".jsonl")
IMAGES = (".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif")
ABOUT = "about-the-model.json"  # beside this file: what to say `without_mlflow` and `without_package`
_NUMPY_TYPES = {"boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64"}
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}

model: Any = None
root = ""


class InputFileError(Exception):
    """A file could not be scored; the message names it."""


class UnsupportedFileType(ValueError):
    """Nothing here reads this kind of file."""


def file_type(path: str) -> str:
    """What is behind the last dot of the file's name, with the dot, in small letters; "" if there is nothing."""
    return os.path.splitext(path)[1].lower()


def init() -> None:
    """Load the model. Raises ModuleNotFoundError that says what to type where its environment lacks a package."""
    global model, root  # noqa: PLW0603  # the shape that a scoring script has
    if "--input_fds_0" in sys.argv:
        root = sys.argv[sys.argv.index("--input_fds_0") + 1]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), ABOUT), encoding="utf-8") as file:
        about = json.load(file)
    try:
        import mlflow.pyfunc
    except ModuleNotFoundError as error:
        advice = about["without_mlflow"] if error.name == "mlflow" else about["without_package"]
        raise ModuleNotFoundError(f"{error}. {advice}", name=error.name) from error
    try:
        model = mlflow.pyfunc.load_model(_folder(os.environ["AZUREML_MODEL_DIR"]))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}. {about['without_package']}", name=error.name) from error


def run(mini_batch: list[str]) -> Any:
    """The rows of all files, in their order."""
    from hpcbatch_driver import Written  # type: ignore[import-not-found]  # the driver that runs this script

    count, frames = 0, []
    for path in mini_batch:
        name = path[len(root) :] if root and path.startswith(root) else os.path.basename(path)
        try:
            rows, frame = _score(path, name)
        except UnsupportedFileType as error:
            raise InputFileError(f"Error processing input file: {path!r}. {error}") from None
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            raise InputFileError(f"Error processing input file: {path!r}. {words}") from error
        count += rows
        frames += [] if frame is None else [frame]

    def table() -> Any:
        import pandas as pd

        return pd.concat([_named(frame) for frame in frames], ignore_index=True)

    return Written(count, lambda: "".join([str(frame.to_csv(header=False, index=False)) for frame in frames]), table)


def _folder(place: str) -> str:
    """The folder with MLmodel: *place*, or the one folder in it."""
    for folder in [place, *(os.path.join(place, name) for name in sorted(os.listdir(place)))]:
        if os.path.isfile(os.path.join(folder, "MLmodel")):
            return folder
    raise FileNotFoundError(f"No file MLmodel in {place} or in a folder of it")


def _score(path: str, name: str) -> tuple[int, Any]:
    """How many rows the file has, and they as a DataFrame; None for no rows."""
    kind = file_type(path)
    if kind in TABULAR:
        table = _table(path, kind)
        if not len(table):
            return 0, None
        return _rows(model.predict(table), len(table), name, numbered=True)
    if kind in IMAGES:
        return _rows(model.predict(_image(path)), 1, name, numbered=False)
    raise UnsupportedFileType(f"File type {kind[1:]!r} is not supported")


def _schema() -> Any:
    """The signature's inputs; None without a signature."""
    return model.metadata.get_input_schema()


def _table(path: str, kind: str) -> Any:
    """The file as a DataFrame whose columns have the types of the signature."""
    import pandas as pd

    schema = _schema()
    specs = [] if schema is None or schema.is_tensor_spec() else list(schema.inputs)
    types = {spec.name: getattr(spec.type, "name", "") for spec in specs if spec.name is not None}
    if kind == ".csv":
        known = {name: _NUMPY_TYPES.get(wanted, "object") for name, wanted in types.items() if wanted != "datetime"}
        found = pd.read_csv(path, dtype={name: dtype for name, dtype in known.items() if types[name]})
    elif kind == ".jsonl":
        with open(path, encoding="utf-8") as file:
            found = pd.DataFrame([json.loads(line) for line in file if line.strip()])
    else:
        found = pd.read_parquet(path)
    for name, wanted in types.items():
        if name in found.columns:
            if wanted == "datetime":
                found[name] = pd.to_datetime(found[name])
            elif wanted in _NUMPY_TYPES and str(found[name].dtype) != _NUMPY_TYPES[wanted]:
                found[name] = _cast(found[name], wanted)
    return found


def _cast(column: Any, wanted: str) -> Any:
    """The column in the wanted type. Raises ValueError where that would change a value."""
    if wanted == "boolean" and column.dtype.kind not in "iuf":
        return column  # any text would be True; mlflow itself refuses it
    cast = column.astype(_NUMPY_TYPES[wanted])
    if column.dtype.kind in "iuf" and cast.dtype.kind in "iub" and not (cast == column).all():
        first = column[cast != column].iloc[0]
        raise ValueError(f"column {column.name!r} holds {first}, which is no {wanted}")
    return cast


def _image(path: str) -> Any:
    """The image as an array: of the signature's shape and type, or as it is, in np.uint8."""
    import numpy as np
    from PIL import Image

    schema = _schema()
    specs = list(schema.inputs) if schema is not None and schema.is_tensor_spec() else []
    if len(specs) > 1:
        raise ValueError(f"the model takes {len(specs)} tensors, and a file holds one image")
    with Image.open(path) as image:
        if specs:
            array = _of_shape(image, tuple(specs[0].shape)).astype(specs[0].type)
            return array if specs[0].name is None else {specs[0].name: array}
        array = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    if array.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"pixels of type {array.dtype} need a model whose signature has a tensor of that type")
    return array.astype(np.uint8)


def _of_shape(image: Any, shape: tuple[int, ...]) -> Any:
    """The pixels in *shape*, a batch of one; as many channels as it has, before or behind height and width."""
    import numpy as np

    first = len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in _CHANNELS
    channels = shape[1] if first else shape[-1] if len(shape) > 2 else 0
    wanted = _CHANNELS.get(channels, "RGB" if image.mode == "P" else image.mode)
    array = np.asarray(image if image.mode == wanted or image.mode[0] in "IF" else image.convert(wanted))
    if first:
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    for own in (array.shape, (1, *array.shape), (1, *array.shape, 1)):
        if len(own) == len(shape) and all(want in (-1, have) for have, want in zip(own, shape)):
            return array.reshape(own)
    try:
        return array.reshape((1, *shape[1:]) if shape[:1] == (-1,) else shape)
    except ValueError:
        raise ValueError(f"an image of shape {array.shape} does not have the model's shape {shape}") from None


def _rows(found: Any, count: int, name: str, *, numbered: bool) -> tuple[int, Any]:
    """One row for each of the *count* rows: the number of the row if wanted, what was predicted, the file. The columns
    of the DataFrame have the numbers that they have in text; `_named` gives them names.
    """
    import pandas as pd

    columns = _columns(found, count)
    for column in columns:
        if len(column) != count:
            raise ValueError(f"predict() returned {len(column)} predictions for {count} rows")
    series = [pd.Series(column, dtype=object if isinstance(column, list) else None) for column in columns]
    parts = [pd.Series(range(count), name="row")] if numbered else []
    parts += [one.reset_index(drop=True) for one in series]
    parts.append(pd.Series([name] * count, dtype=object, name="file"))
    return count, pd.concat(parts, axis=1)


def _named(frame: Any) -> Any:
    """The same rows under names for typed formats: `row`, what was predicted, `file`.

    One prediction is called `prediction`; several have their own names, or `prediction_0` and so on.
    """
    numbered = frame.columns[0] == "row"
    own = list(frame.columns)[int(numbered) : -1]
    if len(own) == 1:
        own = ["prediction"]
    else:
        own = [name if isinstance(name, str) else f"prediction_{at}" for at, name in enumerate(own)]
    return frame.set_axis([*(["row"] if numbered else []), *own, "file"], axis=1)


def _columns(found: Any, count: int) -> list[Any]:
    """What predict() returned for *count* rows, by columns: lists, arrays, Series."""
    import numpy as np
    import pandas as pd

    if isinstance(found, pd.DataFrame):
        return [found.iloc[:, number] for number in range(found.shape[1])]
    if isinstance(found, dict):
        return [column for value in found.values() for column in _columns(value, count)]
    if isinstance(found, (list, tuple)):
        return [list(found) if count > 1 or len(found) == 1 else [found]]
    if isinstance(found, pd.Series) and len(found) == count:
        return [found]
    array = np.asarray(found)
    if array.ndim == 0:
        return [[array.item()]]
    if count == 1 and array.shape[0] != 1:
        array = array[None]
    if array.ndim == 2:
        return [array[:, number] for number in range(array.shape[1])]
    return [array] if array.ndim == 1 else [array.tolist()]
