"""Whether a scoring script may have written into AZUREML_BI_OUTPUT_PATH at all. Loaded by `driver.py`.

A look into the folder after each mini-batch is a call of the system that most scripts do not need: a script has to be
told the folder first. So it is looked into once somebody has asked for the variable, has forked, or can start
programs; or from the beginning if the code names the variable. Standard library only, one file, Python 3.8 or newer.
"""

from __future__ import annotations

import os
import sys

MYPY = False  # true for the type checker only: importing typing would cost every driver some milliseconds
if MYPY:
    from collections.abc import Callable
    from typing import Any

VARIABLE = b"AZUREML_BI_OUTPUT_PATH"
STARTERS = ("subprocess", "_posixsubprocess", "multiprocessing", "ctypes")
ENVIRONMENT = "_data"  # where os.environ keeps what it holds


class _Noticing(dict):  # type: ignore[type-arg]  # Python 3.8
    """What os.environ holds, and whether somebody asked for the variable."""

    asked = False

    def __getitem__(self, key: Any) -> Any:
        if key == VARIABLE:
            self.asked = True
        return dict.__getitem__(self, key)


class Watch:
    """Looks into *folder* when it has to; *load* is `driver._beside`."""

    def __init__(self, load: Callable[[str], Any], folder: str, taken: str, reserved: str, named: str) -> None:
        self._load = load
        self._places = (folder, taken, reserved)
        self._always = bool(named) or not isinstance(getattr(os.environ, ENVIRONMENT, None), dict)
        self._files: Any = None
        self._environment = _Noticing(getattr(os.environ, ENVIRONMENT, None) or {})
        if not self._always:
            for one in (os.environ, os.environb):  # two views of one mapping
                setattr(one, ENVIRONMENT, self._environment)
            os.register_at_fork(before=self._look_from_now_on)

    def left(self, mini_batch: int, wanted: bool) -> Any:
        """What `OutputFiles.take` returns for *mini_batch*, None for nothing; what is not *wanted* is thrown away."""
        if not self._always and not self._environment.asked and not any(name in sys.modules for name in STARTERS):
            return None
        if self._files is None:
            if not os.listdir(self._places[0]):
                return None
            self._files = self._load("output_files").OutputFiles(*self._places)
        return self._files.take(mini_batch) if wanted else self._files.discard()

    def _look_from_now_on(self) -> None:
        self._always = True
