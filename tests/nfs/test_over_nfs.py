"""Real NFS, versions 3 and 4.2, between two clients: a User-Mode-Linux guest serves, mounts twice and runs guest.py."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("linux.uml", "rpc.nfsd", "rpcbind", "modprobe")
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

pytestmark = pytest.mark.slow


def test_two_clients_of_nfs_see_one_truth() -> None:
    if missing := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
        words = f"{', '.join(missing)} not found: apt-get install user-mode-linux nfs-kernel-server kmod rpcbind"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(words)
    # The guest sees this machine's folders, but has a /dev of its own.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        init = Path(folder) / "init"
        init.write_text(f"#!/bin/sh\nexec env HB_PYTHON={sys.executable} HB_ROOT={ROOT} {ROOT}/tests/nfs/init.sh\n")
        init.chmod(0o755)
        guest = subprocess.Popen(
            ["linux.uml", "mem=1024M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
             "con=null", "con0=null,fd:1", f"init={init}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env={"TMPDIR": memory, "HOME": memory, "PATH": PATH}, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = guest.communicate(timeout=1500)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(guest.pid, signal.SIGKILL)  # its processes are several
            guest.wait()
    print(said)
    assert "exit code of the guest's tests: 0\n" in said.replace("\r", ""), said[-6000:]
