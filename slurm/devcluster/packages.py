"""The Debian packages that a cluster is made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import Refused

PROGRAMS = {
    "slurmctld": "/usr/sbin/slurmctld",
    "slurmd": "/usr/sbin/slurmd",
    "slurmdbd": "/usr/sbin/slurmdbd",
    "slurm-client": "/usr/bin/sbatch",
    "slurm-wlm-mysql-plugin": "/usr/lib/*/slurm-wlm/accounting_storage_mysql.so",
    "munge": "/usr/sbin/munged",
    "mariadb-server": "/usr/sbin/mariadbd",
}
SERVICES = {"mariadb-server": "mariadb"} | {name: name for name in ("slurmctld", "slurmd", "slurmdbd", "munge")}
POLICY = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """The packages whose programs are not on this machine."""
    return [package for package, program in PROGRAMS.items() if not list(Path("/").glob(program.lstrip("/")))]


def install() -> list[str]:
    """Install what is missing without starting any service of Debian's; returns the packages that were installed."""
    wanted = missing()
    if not wanted:
        return []
    if shutil.which("apt-get") is None:
        raise Refused(f"this machine has no apt-get; install the equivalents of {' '.join(wanted)} by hand")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with services_kept_still():
        for verb in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
            command = ["apt-get", "-q", *verb]
            subprocess.run(command, check=True, env=env, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    # Else the next boot would start them.
    if Path("/run/systemd/system").exists():
        units = [SERVICES[package] for package in wanted if package in SERVICES]
        subprocess.run(["systemctl", "disable", "--now", *units], check=True, stdout=sys.stderr)
    return wanted


@contextmanager
def services_kept_still() -> Iterator[None]:
    """Debian asks this file before it starts a service; one that the machine already has stays in charge."""
    try:
        with open(POLICY, "x") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
            os.fchmod(policy.fileno(), 0o755)
    except FileExistsError:
        yield
        return
    try:
        yield
    finally:
        POLICY.unlink()
