#!/usr/bin/env python3
"""Slurm on this machine, for the tests and to try infra/slurm: a controller, and nodes that share the machine.

    slurm.py start [--data DIR] [--nodes 2]    # prints an export line: eval "$(infra/local/slurm.py start)"
    slurm.py stop  [--data DIR]                # removes the data; jobs end
    slurm.py status [--data DIR]               # exit code 0 up, 3 down

Debian's packages munge, slurmctld, slurmd and slurm-client (needs root). Every node has all CPUs of the machine:
together they have more than there are. There is no accounting, and no control group: processes are found by their
parents. A job that is requeued waits for 10 seconds.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from s3 import ServerError

DEFAULT_DATA = Path(__file__).resolve().parent / ".state" / "slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0

CONFIGURATION = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={data}/munge.socket,cred_expire=10
StateSaveLocation={data}/state
SlurmdSpoolDir={data}/spool-%n
SlurmctldPidFile={data}/controller.own
SlurmdPidFile={data}/%n.own
SlurmctldLogFile={data}/controller.log
SlurmdLogFile={data}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=3600
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus}"


def require_programs() -> None:
    """Raise an error that names what is missing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        packages = "apt-get install --no-install-recommends munge slurmctld slurmd slurm-client"
        raise ServerError(f"no Slurm here ({', '.join(missing)} not found): {packages}")
    if os.geteuid() != 0:
        raise ServerError("Slurm's daemons are started by root only")


def environment(data: Path) -> dict[str, str]:
    """The environment variables that make Slurm's commands use this cluster."""
    return {"SLURM_CONF": f"{data}/slurm.conf"}


def daemons(data: Path) -> dict[str, int]:
    """The daemons of this folder that run, by name; an id that another process has by now is left out."""
    running = {}
    for path in sorted(data.glob("*.pid")):
        try:
            pid = int(path.read_text())
            if f"{data}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                running[path.stem] = pid
        except (OSError, ValueError):
            continue
    return running


def free_ports(count: int) -> list[int]:
    """Ports that are free, all of them at once."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(data: Path, nodes: int = 2) -> list[str]:
    """Start a cluster, and return the names of its nodes."""
    require_programs()
    if daemons(data):
        raise ServerError(f"a cluster of {data} runs already: stop it first")
    shutil.rmtree(data, ignore_errors=True)
    (data / "state").mkdir(parents=True)
    data.chmod(0o700)
    (data / "munge.key").write_bytes(secrets.token_bytes(128))
    (data / "munge.key").chmod(0o400)
    host, cpus = socket.gethostname().partition(".")[0], os.cpu_count() or 1
    names = [f"node{number}" for number in range(1, nodes + 1)]
    port, *ports = free_ports(1 + nodes)
    lines = [NODE.format(name=name, host=host, port=of, cpus=cpus) for name, of in zip(names, ports, strict=True)]
    (data / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, port=port, data=data, nodes="\n".join(lines)), encoding="utf-8"
    )
    try:
        files = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "own", "seed-file": "seed"}
        places = [f"--{option}={data}/munge.{suffix}" for option, suffix in files.items()]
        _spawn(data, "munge", "munged", "--foreground", "--force", *places)  # by force: only root reaches its socket
        _wait("munge", lambda: (data / "munge.socket").exists(), data)
        _spawn(data, "controller", "slurmctld", "-D", "-f", f"{data}/slurm.conf")
        for name in names:
            _spawn(data, name, "slurmd", "-D", "-N", name, "-f", f"{data}/slurm.conf")
        _wait("the nodes", lambda: idle_nodes(data) == names, data)
    except BaseException:
        stop(data, keep=True)
        raise
    return names


def idle_nodes(data: Path) -> list[str]:
    """The nodes that wait for jobs."""
    command = ["sinfo", "--noheader", "--Node", "--states", "idle", "--format", "%N %t"]
    told = subprocess.run(command, env={**os.environ, **environment(data)}, capture_output=True, text=True, check=False)
    return sorted(line.split()[0] for line in told.stdout.splitlines() if line.split()[1:] == ["idle"])


def _spawn(data: Path, name: str, *command: str) -> None:
    with (data / f"{name}.out").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment(data)},
            start_new_session=True,
        )
    (data / f"{name}.pid").write_text(str(process.pid))


def _wait(what: str, condition: Callable[[], bool], data: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what} did not start within {START_TIMEOUT_S:.0f} s: see the logs in {data}")
        time.sleep(0.1)


def stop(data: Path, *, keep: bool = False) -> None:
    """End all jobs, then the daemons; `keep` leaves their logs."""
    running = daemons(data)
    if "controller" in running:
        settings = {"env": {**os.environ, **environment(data)}, "capture_output": True, "check": False}
        subprocess.run(["scancel", "--user", "root"], **settings)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while subprocess.run(["squeue", "--noheader"], text=True, **settings).stdout and time.monotonic() < deadline:
            time.sleep(0.2)
    for name in sorted(running, key=lambda name: name == "munge"):  # it is the last
        os.kill(running[name], signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while daemons(data) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in daemons(data).values():
        os.kill(pid, signal.SIGKILL)
    if not keep:
        shutil.rmtree(data, ignore_errors=True)


def main() -> int:
    """Read the arguments and do what they ask."""
    parser = argparse.ArgumentParser(description="Slurm on this machine.")
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="everything lives here (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=2, help="their number (default: %(default)s)")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    try:
        if arguments.action == "start":
            start(data, arguments.nodes)
            print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment(data).items()))
        elif arguments.action == "stop":
            stop(data)
        else:
            up = "controller" in daemons(data)
            print("up" if up else "down")
            return 0 if up else 3
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
