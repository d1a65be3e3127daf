r"""Runs a scoring script in the user's own environment. Standard library only, one file, Python 3.8 or newer.

    python -I driver.py REQUEST_FD REPLY_FD LIFELINE_FD

Frames both ways: 4 bytes of operation, u32 length of meta, u64 length of payload, meta, payload.

    INIT  meta JSON                         ->  REDY  meta JSON {init_ms, python}
    RUN_  meta u64 mini-batch               ->  DONE  meta u64 mini-batch, u32 rows, u32 failed items, u64 run_us
          payload: item paths below root              payload: the rows
          with NUL between them             or  FAIL  meta JSON {kind, type, message, traceback, ...}
    STOP                                    ->  (shutdown() runs) BYE_

Before REDY and DONE may come FILE (meta JSON): what was left in AZUREML_BI_OUTPUT_PATH, see `output_files.py`.

What the script prints goes to file descriptors 1 and 2, for a mini-batch that prints between the markers
"\0hb:<mini-batch>\0" and "\0hb:\0", so that whoever reads them knows to which mini-batch the text belongs.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import struct
import sys
import time
import traceback

MYPY = False  # true for the type checker only: importing typing would cost every driver some milliseconds
if MYPY:
    from types import ModuleType
    from typing import Any, Callable

HEAD = struct.Struct("<4sIQ")
RUN = struct.Struct("<Q")
DONE = struct.Struct("<QIIQ")
_F_SETOWN, _F_SETSIG = 8, 10
INIT_MARK, AFTER_MARK = -1, -2


class WrongReturnType(TypeError):
    """run() returned something that cannot be written as rows."""


class Written:
    """Rows of all the items of the mini-batch, as text and as a DataFrame: what `mlflow_model.py` returns."""

    def __init__(self, rows: int, text: Callable[[], str], table: Callable[[], Any]) -> None:
        self.rows = rows
        self.text = text
        self.table = table


def _beside(name: str) -> Any:
    """The module in the file *name* beside this one: what only some jobs need."""
    import importlib.util

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    found = importlib.util.spec_from_file_location("hpcbatch_" + name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class _Marked(io.RawIOBase):
    """A raw stream that puts a marker before the first text of each mini-batch and, when told so, after the last."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.mini_batch = INIT_MARK
        self.open = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.fd

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if not self.open:
            self.open = True
            _write_all(self.fd, b"\0hb:%d\0" % self.mini_batch)
        _write_all(self.fd, view)
        return len(view)

    def end(self) -> None:
        """Mark the end of what the mini-batch printed; costs nothing if that was nothing."""
        if self.open:
            self.open = False
            _write_all(self.fd, b"\0hb:\0")


def _write_all(fd: int, data: Any) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, data[done:])


def _stream(fd: int) -> tuple[_Marked, io.TextIOWrapper]:
    raw = _Marked(fd)
    text = io.TextIOWrapper(
        io.BufferedWriter(raw, 1 << 16), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return raw, text


def die_with_the_owner(fd: int) -> None:
    """Ask the kernel for SIGKILL when the other end of the pipe *fd* is closed, that is when its owner is gone.

    The pipe is opened afresh because the request belongs to the open file, which others may share with this process.
    """
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(fd)
    fcntl.fcntl(own, _F_SETOWN, os.getpid())
    fcntl.fcntl(own, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        if os.read(own, 1) == b"":
            os._exit(1)
    except BlockingIOError:
        pass


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the user's __str__ may raise anything too
        return "(an exception whose __str__ fails)"


def _is_a(result: Any, module: str, name: str) -> bool:
    """Whether *result* is an instance of module.name, without importing anything that the script did not."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None) if loaded is not None else None
    return kind is not None and isinstance(result, kind)


def rows_of(result: Any) -> tuple[int, Callable[[], str]]:
    """(number of rows, function that makes their bytes) for what run() returned, written as Azure ML writes it."""
    if isinstance(result, Written):
        return result.rows, result.text
    if isinstance(result, tuple):
        result = list(result)
    if isinstance(result, list) or _is_a(result, "pandas", "Series"):
        return len(result), lambda: "".join([f"{row}\n" for row in result])
    if _is_a(result, "pandas", "DataFrame"):
        return len(result), lambda: result.to_csv(header=False, index=False, sep=" ")
    if _is_a(result, "numpy", "ndarray") and result.ndim > 0:
        if result.ndim == 1:
            return len(result), lambda: "".join([f"{row}\n" for row in result.tolist()])
        return len(result), lambda: "".join([" ".join(map(str, row)) + "\n" for row in result.tolist()])
    if _is_a(result, "pyarrow", "Table") or _is_a(result, "pyarrow", "RecordBatch"):
        return result.num_rows, lambda: result.to_pandas().to_csv(header=False, index=False, sep=" ")
    if isinstance(result, dict) and len({len(one) if hasattr(one, "__len__") else -1 for one in result.values()}) == 1:
        first = next(iter(result.values()))
        if hasattr(first, "__len__") and not isinstance(first, (str, bytes, dict)):
            return len(first), lambda: str(_beside("row_formats").text_of(result))
    raise WrongReturnType(
        "run() returned {}; it must return a list, a tuple or a pandas DataFrame (also taken: numpy array, "
        "pandas Series, pyarrow Table, dict of columns), one element or row per succeeded item".format(
            "nothing (None)" if result is None else f"a value of type {type(result).__name__!r}"
        )
    )


class Script:
    """The user's scoring script: imported once, then init(), run() for each mini-batch, shutdown()."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.module: ModuleType | None = None
        self.ready = False

    def load(self) -> ModuleType:
        """Import the script with its folder of code first on sys.path."""
        code, script = self.spec["code"], self.spec["script"]
        path = os.path.join(code, script)
        name = os.path.splitext(script)[0].replace("/", ".")
        for entry in reversed([code, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]):
            sys.path.insert(0, entry)
        import importlib.util

        if "." in name:
            sys.path.append(os.path.dirname(path))
            module = importlib.import_module(name)
        else:
            found = importlib.util.spec_from_file_location(name, path)
            if found is None or found.loader is None:
                raise ImportError(f"{script} is no Python file")
            module = importlib.util.module_from_spec(found)
            sys.modules[name] = module
            found.loader.exec_module(module)
        if not callable(getattr(module, "run", None)):
            raise AttributeError(f"the scoring script {script} has no function run(mini_batch)")
        return module

    def init(self) -> None:
        """Load the script and call init() if it has one."""
        self.module = self.load()
        init = getattr(self.module, "init", None)
        if callable(init):
            init()
        self.ready = True

    def run(self, paths: list[str]) -> Any:
        """What the script's run() returns for *paths*."""
        assert self.module is not None
        return self.module.run(paths)

    def shutdown(self) -> None:
        """Call shutdown() if init() ran and the script has one."""
        shutdown = getattr(self.module, "shutdown", None)
        if self.ready and callable(shutdown):
            shutdown()


class Driver:
    """Answers requests until the pipe ends."""

    def __init__(self, requests: int, replies: int) -> None:
        self.requests = open(requests, "rb", buffering=1 << 16)  # noqa: SIM115  # open until the process ends
        self.replies = replies
        self.script: Script | None = None
        self.root = ""
        self.keep_rows = True
        self.watch: Any = None
        self.format: Any = None  # how rows are written, if not as Azure ML writes them
        self.wrong: tuple[type[Exception], ...] = (WrongReturnType,)
        self.streams: list[tuple[_Marked, io.TextIOWrapper]] = []

    def take_over_output(self) -> None:
        """Put marked streams in place of sys.stdout and sys.stderr before the user's code can keep a reference."""
        for name, fd in (("stdout", 1), ("stderr", 2)):
            raw, text = _stream(fd)
            setattr(sys, name, text)
            setattr(sys, f"__{name}__", text)
            self.streams.append((raw, text))

    def begin_output(self, mini_batch: int) -> None:
        """What is printed from now on belongs to *mini_batch*."""
        for raw, _ in self.streams:
            raw.end()
            raw.mini_batch = mini_batch

    def end_output(self) -> None:
        """What was printed is complete; what comes now belongs to init() or shutdown()."""
        for raw, text in self.streams:
            try:
                text.flush()
                raw.end()
            except (ValueError, OSError):  # the script closed it: there is nobody to tell
                raw.open = False
            raw.mini_batch = INIT_MARK

    def reply(self, operation: bytes, meta: bytes, payload: bytes = b"") -> None:
        """Send one frame."""
        _write_all(self.replies, memoryview(HEAD.pack(operation, len(meta), len(payload)) + meta + payload))

    def failed(self, kind: str, error: BaseException, mini_batch: int) -> None:
        """Report *error* with its traceback, from the user's first line on."""
        trace = error.__traceback__
        here = os.path.abspath(__file__)
        while trace is not None and os.path.abspath(trace.tb_frame.f_code.co_filename) == here:
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
        if kind == "wrong-type":
            lines = [f"{error}\n"]
        self.end_output()
        self.left(mini_batch, wanted=False)
        report = {
            "kind": kind, "mini_batch": mini_batch, "type": type(error).__name__, "message": _words(error)[:4000],
            "traceback": "".join(lines)[-20000:],
        }  # fmt: skip
        self.reply(b"FAIL", json.dumps(report).encode())

    def initialise(self, meta: bytes) -> None:
        """INIT: become the script's process, load it, call init()."""
        spec = json.loads(meta)
        self.root, self.keep_rows = os.fsdecode(spec["root"].encode("latin-1")), spec["output_action"] == "append_row"
        self.watch = _beside("output_watch").Watch(_beside, *spec["output"]) if spec.get("output") else None
        if self.keep_rows and spec.get("rows"):
            formats = _beside("row_formats")
            self.format, self.wrong = formats.RowFormat(*spec["rows"]), (WrongReturnType, formats.UnusableRows)
        sys.argv = [os.path.join(spec["code"], spec["script"]), *spec["argv"]]
        begin = time.perf_counter()
        self.script = Script(spec)
        try:
            self.script.init()
            files = self.left(INIT_MARK)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # user code may raise anything; all of it is reported
            self.failed("init", error, INIT_MARK)
            return
        self.end_output()
        if files:
            self.reply(b"FILE", json.dumps(files).encode())
        took_ms = int(1000 * (time.perf_counter() - begin))
        self.reply(b"REDY", json.dumps({"init_ms": took_ms, "python": sys.version.split()[0]}).encode())

    def run(self, meta: bytes, payload: bytes) -> None:
        """RUN_: one mini-batch."""
        mini_batch = RUN.unpack(meta)[0]
        assert self.script is not None
        root, names = self.root, os.fsdecode(payload).split("\0")
        paths = [root + name for name in names]
        self.begin_output(mini_batch)
        begin = time.perf_counter()
        try:
            result = self.script.run(list(paths))
            took_us = int(1e6 * (time.perf_counter() - begin))
            rows, make = rows_of(result)
            if self.format is not None:
                data = self.format.payload(result, rows, names, make)
            else:
                data = make().encode("utf-8", "surrogateescape") if self.keep_rows else b""
            files = self.left(mini_batch)
        except self.wrong as error:
            self.failed("wrong-type", error, mini_batch)
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001  # user code may raise anything; all of it is reported
            self.failed("exception", error, mini_batch)
            return
        self.end_output()
        if files:
            self.reply(b"FILE", json.dumps(files).encode())
        failed = 0 if isinstance(result, Written) else max(0, len(paths) - rows)
        self.reply(b"DONE", DONE.pack(mini_batch, min(rows, 0xFFFFFFFF), failed, took_us), data)

    def left(self, mini_batch: int, *, wanted: bool = True) -> Any:
        """What *mini_batch* left in its folder for files, None for nothing; what is not *wanted* is thrown away."""
        return None if self.watch is None else self.watch.left(mini_batch, wanted)

    def serve(self) -> None:
        """Answer until STOP or the end of the pipe."""
        read = self.requests.read
        while True:
            head = read(HEAD.size)
            if len(head) < HEAD.size:
                return
            operation, meta_bytes, payload_bytes = HEAD.unpack(head)
            meta, payload = read(meta_bytes), read(payload_bytes)
            if operation == b"RUN_":
                self.run(meta, payload)
            elif operation == b"INIT":
                self.initialise(meta)
            else:
                try:
                    if self.script is not None:
                        self.script.shutdown()
                        files = self.left(AFTER_MARK)
                        if files:
                            self.reply(b"FILE", json.dumps(files).encode())
                except (Exception, SystemExit) as error:  # noqa: BLE001  # user code may raise anything; all of it is reported
                    self.failed("shutdown", error, INIT_MARK)
                end_mlflow_runs()
                self.end_output()
                self.reply(b"BYE_", b"")
                return


def end_mlflow_runs() -> None:
    """What MLflow does when the interpreter ends, which is too late here: after BYE_ nobody waits for this process."""
    try:
        while (mlflow := sys.modules.get("mlflow")) and mlflow.active_run():
            mlflow.end_run()
    except Exception:  # noqa: BLE001  # whatever a library of theirs raises: the rows are safe
        traceback.print_exc()


def main() -> None:
    """Take the three file descriptors of the command line and serve."""
    requests, replies, lifeline = (int(text) for text in sys.argv[1:4])
    for fd in (requests, replies, lifeline):
        os.set_inheritable(fd, False)
    die_with_the_owner(lifeline)
    # A preemption's SIGTERM is the worker's business: a mini-batch in progress should use the grace time. A handler
    # that does nothing, unlike SIG_IGN, is not inherited by programs that the script starts; processes that it forks
    # get back what was before: `multiprocessing` ends its own with SIGTERM.
    nothing: Any = lambda *_: None  # noqa: E731  # it has to be known again, for the script may set its own
    before = {n: signal.signal(n, nothing) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)}
    os.register_at_fork(
        after_in_child=lambda: [signal.signal(n, before[n]) for n in before if signal.getsignal(n) is nothing]
    )
    driver = Driver(requests, replies)
    driver.take_over_output()
    driver.serve()
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    sys.modules.setdefault("hpcbatch_driver", sys.modules["__main__"])
    main()
