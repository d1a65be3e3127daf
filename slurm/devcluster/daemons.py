"""Starting and ending the daemons of one cluster, and finding what its jobs left behind.

Every daemon's pid is recorded with its start time: a process that merely inherited the number is not signalled.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from cluster import Cluster, Refused

SYSTEM_TABLES = (Path("/usr/share/mysql/mysql_system_tables.sql"), Path("/usr/share/mariadb/mariadb_system_tables.sql"))
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


def started_at(pid: int) -> str | None:
    """The start time of a living process in clock ticks since boot; None where there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def find_pid(cluster: Cluster, name: str) -> int | None:
    """The pid of a daemon that this cluster started and that still runs."""
    try:
        record = json.loads(cluster.pid_record(name).read_text())
        command = Path(f"/proc/{record['pid']}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if started_at(record["pid"]) != record["started"]:
        return None
    # In the first moments of its program a process has no command line yet.
    return int(record["pid"]) if not command or record["program"].encode() in command else None


def running(cluster: Cluster) -> list[str]:
    return [name for name in cluster.names() if find_pid(cluster, name) is not None]


# ---- starting --------------------------------------------------------------------------------------------------------


def start(cluster: Cluster, names: Sequence[str], held: Mapping[str, socket.socket]) -> None:
    """Start daemons, each once those it needs are listening; returns when all listen."""
    order = [name for name in cluster.names() if name in names]
    if "mariadb" in order:
        create_database(cluster)
    for group in ({"munge", "mariadb"}, {"slurmdbd"}, {"slurmctld"}, set(order)):
        now = [name for name in order if name in group and find_pid(cluster, name) is None]
        for name in now:
            if name in held:
                held[name].close()
            spawn(cluster, name)
        for name in now:
            wait_until(cluster, [name], partial(listens, cluster, name))


def spawn(cluster: Cluster, name: str) -> None:
    """Start a daemon in the foreground of a session of its own: its pid is known and no terminal ends it."""
    command = daemon_command(cluster, name)
    # libmariadb knows no other way to find a socket when slurmdbd says "localhost".
    env = cluster.env() | {"MYSQL_UNIX_PORT": str(cluster.mariadb_socket)}
    with open(cluster.stderr(name), "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=env, start_new_session=True
        )
    record = {"pid": process.pid, "started": started_at(process.pid), "program": os.path.basename(command[0])}
    cluster.pid_record(name).write_text(json.dumps(record))
    process.returncode = 0  # It outlives us; Popen's finalizer would warn that it still runs.


def daemon_command(cluster: Cluster, name: str) -> list[str]:
    run = cluster.folder / "run"
    if name == "munge":
        files = [f"--key-file={cluster.folder / 'munge.key'}", f"--seed-file={run / 'munge.seed'}"]
        sockets = [f"--socket={cluster.munge_socket}", f"--pid-file={run / 'munge.pid'}"]
        return ["/usr/sbin/munged", "--force", "--foreground", "--num-threads=4", *files, *sockets]
    if name == "mariadb":
        sockets = [f"--socket={cluster.mariadb_socket}", f"--pid-file={run / 'mariadb.pid'}"]
        return [*mariadb_command(cluster), "--skip-networking", *sockets]
    if name == "slurmdbd":
        return ["/usr/sbin/slurmdbd", "-D"]
    if name == "slurmctld":
        return ["/usr/sbin/slurmctld", "-D", "-f", str(cluster.conf)]
    return ["/usr/sbin/slurmd", "-D", "-f", str(cluster.conf), "-N", name.removeprefix("slurmd-")]


def mariadb_command(cluster: Cluster) -> list[str]:
    """No network and no passwords: the socket's folder belongs to root alone, and that is the lock."""
    flags = ("--no-defaults", "--user=root", f"--datadir={cluster.folder / 'db'}", f"--tmpdir={cluster.folder / 'run'}")
    small = ("--skip-grant-tables", "--performance-schema=off", "--innodb-log-file-size=8M", "--max-connections=20")
    quick = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-lock-wait-timeout=900")
    return ["/usr/sbin/mariadbd", *flags, *small, *quick]


def create_database(cluster: Cluster) -> None:
    """The system tables alone: a tenth of the time of mariadb-install-db."""
    data, ready = cluster.folder / "db", cluster.folder / "db" / "devcluster-ready"
    if ready.exists():
        return
    tables = next((path for path in SYSTEM_TABLES if path.exists()), None)
    if tables is None:
        raise Refused(f"MariaDB's system tables are not at {SYSTEM_TABLES[0]}; run `devcluster install`")
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    script = b"create database mysql;\nuse mysql;\n" + tables.read_bytes()
    command = [*mariadb_command(cluster), "--bootstrap"]
    done = subprocess.run(command, input=script, capture_output=True, cwd="/", check=False)
    cluster.log("mariadb-bootstrap").write_bytes(done.stdout + done.stderr)
    if done.returncode:
        raise Refused(f"MariaDB could not create its tables; see {cluster.log('mariadb-bootstrap')}")
    ready.touch()


def listens(cluster: Cluster, name: str) -> bool:
    """Whether a daemon accepts connections: looked up in the kernel's tables, so that no log shows a broken one."""
    if name in ("munge", "mariadb"):
        path = cluster.munge_socket if name == "munge" else cluster.mariadb_socket
        rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
        return any(row[-1] == str(path) and row[3] == "00010000" for row in rows)
    wanted = f":{cluster.ports[name]:04X}"
    tables = [path for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()]
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in rows)


def wait_until(cluster: Cluster, names: Sequence[str], ready: Callable[[], bool]) -> None:
    """Wait for daemons; their death or silence is an error that shows the end of the log."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        dead = [name for name in names if find_pid(cluster, name) is None]
        if not dead and time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        name = dead[0] if dead else names[0]
        what = "ended while it started" if dead else f"is not ready after {START_TIMEOUT_S:.0f} s"
        log = cluster.log(name)
        if not log.exists() or log.stat().st_size == 0:
            log = cluster.stderr(name)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise Refused(f"{name} {what}; the end of {log}:\n{tail}")


def wait_for_nodes(cluster: Cluster) -> None:
    """Until slurmctld says that every node takes jobs."""

    def all_up() -> bool:
        command = ["sinfo", "-h", "-N", "-p", "normal", "-o", "%t"]
        done = subprocess.run(command, capture_output=True, text=True, env=cluster.env(), check=False)
        return sum(state in ("idle", "mix", "alloc", "comp") for state in done.stdout.split()) == cluster.options.nodes

    wait_until(cluster, [name for name in cluster.names() if name.startswith("slurm")], all_up)


# ---- ending ----------------------------------------------------------------------------------------------------------


def stop(cluster: Cluster, names: Sequence[str]) -> None:
    """End daemons: politely, then not."""
    pids = [pid for name in names if (pid := find_pid(cluster, name)) is not None]
    # A slurmd that is ending a job waits for that, and has nothing to lose.
    polite_s = 2.0 if all(name.startswith("slurmd-") for name in names) else STOP_TIMEOUT_S
    if left := end(end(pids, signal.SIGTERM, polite_s), signal.SIGKILL, STOP_TIMEOUT_S):
        raise Refused(f"processes {left} survive SIGKILL; see `ps -o pid,stat,wchan,cmd -p {left[0]}`")
    for name in names:
        cluster.pid_record(name).unlink(missing_ok=True)


def stop_everything(cluster: Cluster) -> None:
    """End the daemons and what is left of the jobs, in the order that is quick and loses no accounting."""
    stop(cluster, ["slurmctld"])
    end(job_processes(cluster), signal.SIGKILL, STOP_TIMEOUT_S)
    stop(cluster, [name for name in cluster.names() if name.startswith("slurmd-")])
    if left := end(job_processes(cluster), signal.SIGKILL, STOP_TIMEOUT_S):
        raise Refused(f"processes of jobs survive SIGKILL: {left}")
    for name in ("slurmdbd", "mariadb", "munge"):
        stop(cluster, [name])


def end(pids: Sequence[int], how: signal.Signals, timeout_s: float) -> list[int]:
    """Signal processes and wait for their end; returns those that are still there."""
    marks = {pid: mark for pid in pids if (mark := started_at(pid)) is not None}
    for pid in marks:
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + timeout_s
    while left := [pid for pid, mark in marks.items() if started_at(pid) == mark]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def job_processes(cluster: Cluster) -> list[int]:
    """Every slurmstepd of this cluster and every process of its jobs, also those that left their session."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state in "ZX":
                continue
            parents[int(entry.name)] = int(parent)
            if belongs(cluster, entry):
                found.add(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # It ended meanwhile, or is a process that even root may not look into.
    caller, pid = {os.getpid()}, os.getpid()
    while (pid := parents.get(pid, 0)) > 1:
        caller.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - caller)


def belongs(cluster: Cluster, entry: Path) -> bool:
    """Whether a process is part of a job step. Those know their node; a shell of the user's does not."""
    variables = (entry / "environ").read_bytes().split(b"\0")
    here = os.fsencode(f"SLURM_CONF={cluster.conf}") in variables
    if here and any(variable.startswith(b"SLURMD_NODENAME=") for variable in variables):
        return True
    # slurmstepd writes its title over its environment, but keeps its node's log open.
    if not (entry / "cmdline").read_bytes().startswith(b"slurmstepd"):
        return False
    logs = {str(cluster.log(name)) for name in cluster.names()}
    return any(os.readlink(fd) in logs for fd in (entry / "fd").iterdir())
