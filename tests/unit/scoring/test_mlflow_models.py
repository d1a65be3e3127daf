"""The script for MLflow models without one: how files are read, which rows come out. Models here are made of Python."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hpcbatch.scoring import driver, mlflow_model
from hpcbatch.scoring.driver_process import Done, DriverProcess, DriverSpec, Failed, Ready, Reply

COLUMNS = ("long", "integer", "double", "float", "string", "boolean", "datetime")


class Model:
    """Stands for mlflow.pyfunc.PyFuncModel; remembers what predict() was given."""

    def __init__(self, predict: Callable[[Any], Any], signature: dict[str | None, str] | None = None) -> None:
        self.given: list[Any] = []
        self._predict = predict
        inputs = [
            SimpleNamespace(name=name, type=SimpleNamespace(name=kind)) for name, kind in (signature or {}).items()
        ]
        schema = SimpleNamespace(inputs=inputs, is_tensor_spec=lambda: False) if signature is not None else None
        self.metadata = SimpleNamespace(get_input_schema=lambda: schema)

    def predict(self, data: Any) -> Any:
        self.given.append(data)
        return self._predict(data)


Scored = Callable[..., str]


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scored:
    """`scored(model, {name: content})`: the text for a mini-batch of these files."""
    monkeypatch.setitem(sys.modules, "hpcbatch_driver", driver)

    def run(model: Model, files: dict[str, str | bytes | pd.DataFrame]) -> str:
        monkeypatch.setattr(mlflow_model, "model", model)
        monkeypatch.setattr(mlflow_model, "root", f"{tmp_path}/")
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pd.DataFrame):
                content.to_parquet(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        written = mlflow_model.run([str(tmp_path / name) for name in files])
        assert written.rows == sum(1 for _ in csv.reader(written.text().splitlines(keepends=True)))
        return str(written.text())

    return run


PREDICTED = [
    ("array", lambda _: np.array([1.5, 2.0]), "0,1.5,x.csv\n1,2.0,x.csv\n"),
    ("array of whole numbers", lambda _: np.array([1, 2]), "0,1,x.csv\n1,2,x.csv\n"),
    ("column", lambda _: np.array([[1], [2]]), "0,1,x.csv\n1,2,x.csv\n"),
    ("matrix", lambda _: np.array([[1, 2], [3, 4]]), "0,1,2,x.csv\n1,3,4,x.csv\n"),
    ("cube", lambda _: np.zeros((2, 1, 2)), '0,"[[0.0, 0.0]]",x.csv\n1,"[[0.0, 0.0]]",x.csv\n'),
    ("list", lambda _: ["a", 'b "c", d'], '0,a,x.csv\n1,"b ""c"", d",x.csv\n'),
    ("list of lists", lambda _: [[1, 2], [3]], '0,"[1, 2]",x.csv\n1,[3],x.csv\n'),
    ("series with an index", lambda _: pd.Series([True, False], index=[7, 9]), "0,True,x.csv\n1,False,x.csv\n"),
    ("one column", lambda _: pd.DataFrame({"p": ["a", None]}, index=[7, 9]), "0,a,x.csv\n1,,x.csv\n"),
    (
        "columns of their types",
        lambda _: pd.DataFrame({"b": [1, 2], "a": [0.1, np.nan], "c": ["x", "y"]}),
        "0,1,0.1,x,x.csv\n1,2,,y,x.csv\n",
    ),
    ("columns of one name", lambda _: pd.DataFrame([[1, 2], [3, 4]], columns=["p", "p"]), "0,1,2,x.csv\n1,3,4,x.csv\n"),
    ("dict", lambda _: {"label": ["a", "b"], "p": np.array([0.5, 1.0])}, "0,a,0.5,x.csv\n1,b,1.0,x.csv\n"),
    ("small floats", lambda _: np.array([0.1, 1e-300], "float64"), "0,0.1,x.csv\n1,1e-300,x.csv\n"),
]


@pytest.mark.parametrize(("predict", "text"), [case[1:] for case in PREDICTED], ids=[case[0] for case in PREDICTED])
def test_one_row_per_data_row_with_what_predict_returned(scored: Scored, predict: Any, text: str) -> None:
    assert scored(Model(predict), {"x.csv": "a\n1\n2\n"}) == text


@pytest.mark.parametrize("predicted", [[1], [1, 2, 3], np.array([1]), np.ones((3, 2)), pd.Series([1]), np.array(1)])
def test_another_number_of_predictions_than_rows_is_an_error(scored: Scored, predicted: Any) -> None:
    with pytest.raises(mlflow_model.InputFileError, match=r"x\.csv'\. ValueError: predict\(\) returned [13] predict"):
        scored(Model(lambda _: predicted), {"x.csv": "a\n1\n2\n"})


def test_one_predict_per_file_in_their_order(scored: Scored) -> None:
    """Files of a folder in the input are told apart; a table without rows is not predicted."""
    model = Model(lambda table: table["a"] * 10)
    files = {"b.csv": "a\n1\n2\n", "empty.CSV": "a\n", "in/b.csv": "a\n3\n", 'a, "b".csv': "a\n4\n"}
    rows = '0,10,b.csv\n1,20,b.csv\n0,30,in/b.csv\n0,40,"a, ""b"".csv"\n'
    assert scored(model, files) == rows
    assert [len(given) for given in model.given] == [2, 1, 1]


def test_all_formats_give_the_same_rows(scored: Scored) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    lines = table.to_json(orient="records", lines=True)
    files = {"t.csv": table.to_csv(index=False), "t.parquet": table, "t.pqt": table, "t.jsonl": lines}
    text = scored(Model(lambda found: found["b"] + found["a"].astype(str)), files)
    assert text == "".join(f"0,x1,{name}\n1,y2,{name}\n" for name in files)


def test_types_of_the_signature_are_those_of_the_columns(scored: Scored) -> None:
    """Without one, pandas guesses."""
    text = ",".join(COLUMNS) + ",more\n1,2,3,4,5,True,2026-01-02,7\n"
    table = pd.DataFrame({"long": [1], "integer": [2], "double": [3], "float": [4], "string": ["5"], "boolean": [True],
                          "datetime": ["2026-01-02"], "more": [7]})  # fmt: skip
    files = {"t.csv": text, "t.parquet": table, "t.jsonl": table.to_json(orient="records", lines=True)}
    model = Model(lambda found: [0], {name: name for name in COLUMNS})
    scored(model, files)
    for found in model.given:
        kinds = {name: str(kind) for name, kind in found.dtypes.items()}
        assert kinds["datetime"].startswith("datetime64")
        numbers = {"long": "int64", "integer": "int32", "double": "float64", "float": "float32", "boolean": "bool"}
        assert {name: kinds[name] for name in numbers} == numbers
        assert (found["string"][0], found["more"][0]) == ("5", 7)
    guessing = Model(lambda found: [0])
    scored(guessing, {"t.csv": text})
    assert {str(guessing.given[0][name].dtype) for name in ("long", "double", "string", "more")} == {"int64"}


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("long", "a\n1\nabc\n", "invalid literal for int() with base 10: 'abc'"),
        ("long", "a\n1\n2.5\n", "ValueError"),
        ("long", "a,b\n1,1\n,2\n", "NA"),
        ("double", "a\nabc\n", "could not convert string to float"),
        ("boolean", "a\nmaybe\n", "ValueError"),
        ("datetime", "a\nyesterday-ish\n", "yesterday-ish"),
        ("long", pd.DataFrame({"a": [1.0, 2.5]}), "column 'a' holds 2.5, which is no long"),
        ("integer", pd.DataFrame({"a": [1 << 40]}), f"column 'a' holds {1 << 40}, which is no integer"),
        ("long", pd.DataFrame({"a": ["abc"]}), "invalid literal for int() with base 10: 'abc'"),
        ("long", "", "No columns to parse"),
    ],
)
def test_what_is_not_of_its_type_is_named_with_its_file(scored: Scored, kind: str, content: Any, words: str) -> None:
    name = "in/bad.parquet" if isinstance(content, pd.DataFrame) else "in/bad.csv"
    with pytest.raises(mlflow_model.InputFileError, match=r"Error processing input file: '.*/in/bad") as caught:
        scored(Model(lambda found: found["a"], {"a": kind}), {"good.csv": "a\n1\n", name: content})
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [("x.avro", "avro"), ("x.json", "json"), ("x.csv.gz", "gz"), ("README", "")])
def test_another_type_of_file_is_refused_in_azures_words(scored: Scored, tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(mlflow_model.InputFileError) as caught:
        scored(Model(lambda _: []), {name: "x"})
    assert str(caught.value) == (
        f"Error processing input file: '{tmp_path}/{name}'. File type '{kind}' is not supported"
    )


def test_a_name_that_is_not_utf8_comes_back_as_its_bytes(scored: Scored) -> None:
    name = os.fsdecode(b"\xff.csv")
    assert os.fsencode(scored(Model(lambda _: [1]), {name: "a\n1\n"}).strip()) == b"0,1,\xff.csv"


FAKE_MLFLOW = """
import types

class Model:
    metadata = types.SimpleNamespace(get_input_schema=lambda: None)
    def predict(self, table):
        print("predicting", len(table))
        return table["a"] + self.more

def load_model(folder):
    model = Model()
    model.more = int(open(folder + "/more").read())
    return model
"""


class Started:
    """A driver with the script, a model that adds 100, and an mlflow that is there or not."""

    def __init__(self, folder: Path, mlflow: str | None, *, output_action: str = "append_row") -> None:
        for name, text in {"model/m/MLmodel": "", "model/m/more": "100", "data/in/x.csv": "a\n1\n2\n3\n"}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "code").mkdir()
        (folder / "code" / "mlflow_model.py").write_bytes(Path(mlflow_model.__file__).read_bytes())
        about = {"without_mlflow": "Type this.", "without_package": "Type that."}
        (folder / "code" / mlflow_model.ABOUT).write_text(json.dumps(about))
        if mlflow is not None:
            (folder / "lib" / "mlflow").mkdir(parents=True)
            (folder / "lib" / "mlflow" / "__init__.py").write_text("")
            (folder / "lib" / "mlflow" / "pyfunc.py").write_text(mlflow)
        environment = {"PATH": os.environ["PATH"], "AZUREML_MODEL_DIR": str(folder / "model"),
                       "PYTHONPATH": str(folder / "lib")}  # fmt: skip
        root = f"{folder}/data/"
        argv = ("--logging_level", "info", "--input_fds_0", root)
        self.driver = DriverProcess(
            DriverSpec(
                sys.executable, (), environment, str(folder / "code"), "mlflow_model.py", argv, root, output_action
            )
        )

    def next(self) -> Reply:
        os.set_blocking(self.driver.reply_fd, True)
        while True:
            replies, alive = self.driver.replies()
            assert replies or alive
            if replies:
                return replies[0]

    def score(self, *names: str) -> Reply:
        self.driver.run(5, "\0".join(names).encode())
        return self.next()


def test_the_driver_runs_it_like_any_script(tmp_path: Path) -> None:
    """Rows are counted as rows, items as files: three rows of one file of which none failed."""
    started = Started(tmp_path, FAKE_MLFLOW)
    assert isinstance(started.next(), Ready)
    found = started.score("in/x.csv", "in/x.csv")
    assert isinstance(found, Done)
    assert (found.rows, found.failed_items) == (6, 0)
    assert found.payload == b"0,101,in/x.csv\n1,102,in/x.csv\n2,103,in/x.csv\n" * 2
    failed = started.score("in/none.csv")
    assert isinstance(failed, Failed)
    assert "none.csv'. FileNotFoundError" in failed.report["message"]
    started.driver.close()


def test_nothing_is_written_for_summary_only(tmp_path: Path) -> None:
    started = Started(tmp_path, FAKE_MLFLOW, output_action="summary_only")
    assert isinstance(started.next(), Ready)
    found = started.score("in/x.csv")
    assert isinstance(found, Done)
    assert (found.rows, found.failed_items, found.payload) == (3, 0, b"")
    started.driver.close()


@pytest.mark.parametrize(
    ("mlflow", "words"),
    [
        (None, "No module named 'mlflow'. Type this."),
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind'. Type that."),
        (
            "def load_model(folder):\n    import nothing_of_the_kind",
            "No module named 'nothing_of_the_kind'. Type that.",
        ),
    ],
)
def test_what_the_environment_lacks_is_said_with_what_to_type(tmp_path: Path, mlflow: str | None, words: str) -> None:
    started = Started(tmp_path, mlflow)
    failed = started.next()
    assert isinstance(failed, Failed)
    assert (failed.report["kind"], failed.report["message"]) == ("init", words)
    started.driver.close()


def test_rows_of_a_model_have_named_columns_in_typed_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`row`, what was predicted, `file`; several predictions keep the names that they have."""
    monkeypatch.setitem(sys.modules, "hpcbatch_driver", driver)
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    found = {}
    for name, predicted in {
        "one": np.array([0.5, 1.5]),
        "array": np.array([[1, 2], [3, 4]]),
        "frame": pd.DataFrame({"label": ["u", "v"], "p": [0.5, 0.25]}),
    }.items():
        monkeypatch.setattr(mlflow_model, "model", Model(lambda table, predicted=predicted: predicted))
        monkeypatch.setattr(mlflow_model, "root", f"{tmp_path}/")
        found[name] = mlflow_model.run([str(tmp_path / "a.csv")]).table()
    assert found["one"].to_dict("list") == {"row": [0, 1], "prediction": [0.5, 1.5], "file": ["a.csv"] * 2}
    assert list(found["array"].columns) == ["row", "prediction_0", "prediction_1", "file"]
    assert list(found["frame"].columns) == ["row", "label", "p", "file"]
