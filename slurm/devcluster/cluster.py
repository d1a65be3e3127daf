"""What a development cluster consists of: its options, its folder, its ports and its configuration files."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# A unix socket's path has at most 107 bytes, and slurmstepd appends up to 40 to the folder: n16_4294967295.4294967291
LONGEST_SOCKET_FOLDER = 60


class Refused(Exception):
    """What was asked cannot be done; the text says what to do instead."""


@dataclass(frozen=True)
class Options:
    """How a cluster is built."""

    accounting: bool = True
    grace: int = 0
    preempt_mode: str = "REQUEUE"
    nodes: int = 4
    cpus_per_node: int = 4
    max_array_size: int = 1001
    job_requeue: int = 1
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """Paths and ports of one cluster; `sockets` differs from `folder` only where that is too long for a socket."""

    folder: Path
    sockets: Path
    options: Options
    ports: Mapping[str, int]

    @property
    def conf(self) -> Path:
        """What SLURM_CONF has to say to reach this cluster."""
        return self.folder / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        """Where clients of every user get and check credentials."""
        return self.sockets / "munge" / "socket"

    @property
    def mariadb_socket(self) -> Path:
        """The only way to the database, in a folder that is closed to others."""
        return self.sockets / "mariadb" / "socket"

    def names(self) -> list[str]:
        """The daemons in the order in which they start."""
        first = ["munge", "mariadb", "slurmdbd"] if self.options.accounting else ["munge"]
        return [*first, "slurmctld", *(f"slurmd-n{i}" for i in range(1, self.options.nodes + 1))]

    def log(self, name: str) -> Path:
        """The log file of a daemon."""
        return self.folder / "log" / f"{name}.log"

    def stderr(self, name: str) -> Path:
        """What a daemon says before it opens its log, and then a copy without times."""
        return self.folder / "log" / f"{name}.stderr"

    def pid_record(self, name: str) -> Path:
        """Which process a daemon is: pid, start time, program."""
        return self.folder / "pids" / name

    def env(self) -> dict[str, str]:
        """The caller's environment, without the Slurm job or the other cluster that the caller may be in."""
        foreign = ("SLURM", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCONTROL_", "PMI", "MYSQL_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        path = os.pathsep.join((kept.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
        return kept | {"PATH": path, "SLURM_CONF": str(self.conf)}


def load(folder: Path) -> Cluster | None:
    """The cluster that was built in a folder; None where there is none."""
    try:
        state = json.loads((folder / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    settings = tuple(state["options"].pop("settings"))
    return Cluster(folder, Path(state["sockets"]), Options(**state["options"], settings=settings), state["ports"])


def build(folder: Path, options: Options) -> tuple[Cluster, dict[str, socket.socket]]:
    """Write the folder of a cluster that does not run; returns its reserved ports with it.

    A cluster that was there before keeps its accounting, its jobs and its key, and gets new ports.
    """
    old = load(folder)
    cluster = Cluster(folder, old.sockets if old else socket_folder(folder), options, {})
    names = [name for name in cluster.names() if name not in ("munge", "mariadb")]
    held = dict(zip(names, reserve_ports(len(names)), strict=True))
    cluster = replace(cluster, ports={name: port.getsockname()[1] for name, port in held.items()})
    state = {"options": asdict(options), "ports": cluster.ports, "sockets": str(cluster.sockets)}
    (folder / "cluster.json").write_text(json.dumps(state, indent=1))

    spools = (cluster.sockets / "spool" / f"n{i}" for i in range(1, options.nodes + 1))
    for path in (*(folder / name for name in ("log", "pids", "run", "state")), cluster.sockets / "munge", *spools):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
    (cluster.sockets / "mariadb").mkdir(mode=0o700, exist_ok=True)
    write_private(folder / "slurmdbd.conf", slurmdbd_conf(cluster).encode())
    if not (folder / "munge.key").exists():
        write_private(folder / "munge.key", os.urandom(128))
    (folder / "cgroup.conf").write_text(cgroup_conf(options))
    cluster.conf.write_text(slurm_conf(cluster))
    cluster.conf.chmod(0o644)
    return cluster, held


def write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def socket_folder(folder: Path) -> Path:
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
        return folder
    short = Path(tempfile.mkdtemp(prefix="devcluster-", dir="/tmp"))
    short.chmod(0o755)
    return short


def reserve_ports(count: int) -> list[socket.socket]:
    """Bound sockets below the range of outgoing connections; each is closed when its daemon starts, not before."""
    held: list[socket.socket] = []
    for port in random.sample(range(10000, 32000), 2000):
        candidate = socket.socket()
        try:
            candidate.bind(("", port))
        except OSError:
            candidate.close()
            continue
        held.append(candidate)
        if len(held) == count:
            return held
    raise Refused("no free TCP ports between 10000 and 32000; `ss -ltn` shows who holds them")


def slurm_conf(cluster: Cluster) -> str:
    """slurm.conf: everything at once, short intervals, a requeue within seconds."""
    options = cluster.options
    host = socket.gethostname().partition(".")[0]
    values = {**fixed_settings(), **private_settings(cluster, host)}
    values["PreemptMode"] = options.preempt_mode
    values["JobRequeue"] = str(options.job_requeue)
    values["MaxArraySize"] = str(options.max_array_size)
    values.update({key: value for key, _, value in (setting.partition("=") for setting in options.settings)})
    lines = [f"{key}={value}" for key, value in values.items()]
    for i in range(1, options.nodes + 1):
        where = f"NodeAddr=127.0.0.1 NodeHostname={host} Port={cluster.ports[f'slurmd-n{i}']}"
        lines.append(f"NodeName=n{i} {where} CPUs={options.cpus_per_node} RealMemory=64000 State=UNKNOWN")
    common = f"Nodes=n[1-{options.nodes}] MaxTime=INFINITE State=UP"
    low = f"PriorityTier=1 PreemptMode={options.preempt_mode} GraceTime={options.grace}"
    lines.append(f"PartitionName=normal {common} Default=YES PriorityTier=10 PreemptMode=OFF")
    lines.append(f"PartitionName=preempt {common} {low}")
    return "\n".join(lines) + "\n"


def fixed_settings() -> dict[str, str]:
    """What is the same in every cluster."""
    return {
        "ClusterName": "dev",
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "MailProg": "/bin/true",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=10000",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "PreemptType": "preempt/partition_prio",
        "KillWait": "5",
        "MessageTimeout": "5",
        "SlurmdTimeout": "10",
        "MinJobAge": "300",
        "ReturnToService": "2",
        "SlurmdParameters": "config_overrides",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "2",
        "AccountingStorageType": "accounting_storage/none",
    }


def private_settings(cluster: Cluster, host: str) -> dict[str, str]:
    """What no two clusters share: ports, sockets, files."""
    run = cluster.folder / "run"
    values = {
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": str(cluster.ports["slurmctld"]),
        "SlurmdPort": str(cluster.ports["slurmd-n1"]),
        # A requeued job waits for its old credential to expire: cred_expire + 1 seconds, two minutes by default.
        "AuthInfo": f"socket={cluster.munge_socket},cred_expire=5",
        "StateSaveLocation": str(cluster.folder / "state"),
        "SlurmdSpoolDir": str(cluster.sockets / "spool" / "%n"),
        "SlurmctldPidFile": str(run / "slurmctld.pid"),
        "SlurmdPidFile": str(run / "slurmd-%n.pid"),
        "SlurmctldLogFile": str(cluster.log("slurmctld")),
        "SlurmdLogFile": str(cluster.log("slurmd-%n")),
    }
    if cluster.options.accounting:
        values["AccountingStorageType"] = "accounting_storage/slurmdbd"
        values["AccountingStorageHost"] = "localhost"
        values["AccountingStoragePort"] = str(cluster.ports["slurmdbd"])
        values["AccountingStoragePass"] = str(cluster.munge_socket)
    return values


def cgroup_conf(options: Options) -> str:
    """No cgroups unless an option asks for them: slurmd would insist on what a container does not have."""
    if any("/cgroup" in setting for setting in options.settings):
        limits = any("task/cgroup" in setting for setting in options.settings)
        return "CgroupPlugin=autodetect\n" + "ConstrainRAMSpace=yes\n" * limits
    answer = subprocess.run(["/usr/sbin/slurmd", "-V"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in answer.split()[-1].split(".")[:2])
    # Older ones cannot switch it off, but their plugin for version 1 looks for nothing before it is used.
    return f"CgroupPlugin={'disabled' if version >= (24, 5) else 'cgroup/v1'}\n"


def slurmdbd_conf(cluster: Cluster) -> str:
    values = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={cluster.munge_socket}",
        "DbdHost": "localhost",
        "DbdPort": str(cluster.ports.get("slurmdbd", "")),
        "SlurmUser": "root",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageLoc": "slurm_acct_db",
        "StorageUser": "root",
        "PidFile": str(cluster.folder / "run" / "slurmdbd.pid"),
        "LogFile": str(cluster.log("slurmdbd")),
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())
