#!/usr/bin/env python3
"""Ceph's S3 gateway on loopback: a second opinion beside SeaweedFS for the tests, and to try condgen with Ceph.

    ceph.py start [--data DIR] [--port 7480]    # prints export lines: eval "$(infra/local/ceph.py start)"
    ceph.py stop  [--data DIR]                  # removes the data
    ceph.py status [--data DIR]                 # exit code 0 up, 3 down

One monitor, one OSD that holds everything in memory, and radosgw, from Debian's packages radosgw, ceph-mon, ceph-osd
and ceph-common (needs root). They listen on 127.0.0.1 alone and authenticate nobody among themselves; S3's own
signatures are checked. Debian's gateway (16.2) answers the checksums that some clients send unasked (pyarrow's, boto3's
streams) with 411, so the environment says `when_required`; condgen itself needs no such setting.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

from s3 import Server, ServerError, free_port, ports_are_free

DEFAULT_DATA = Path(__file__).resolve().parent / ".state" / "ceph"
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
DAEMONS = ("radosgw", "ceph-osd", "ceph-mon")  # in the order of stopping
START_TIMEOUT_S = 60.0
STORE_BYTES = 4 << 30

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = {first}
ms bind port max = {last}
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
keyring = {data}/keyring
run dir = {data}
admin socket = {data}/$name.$pid.asok
log file = {data}/$name.log
crash dir = {data}/crash
mon data = {data}/mon
osd data = {data}/osd
rgw data = {data}/rgw
# One of each, which answers at once and keeps no second copy.
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail crit = 1
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd heartbeat grace = 300
osd objectstore = memstore
memstore device bytes = {store_bytes}
debug rgw = 0
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw relaxed region enforcement = true
"""


def require_programs() -> None:
    """Raise an error that names what is missing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        packages = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common"
        raise ServerError(f"no Ceph here ({', '.join(missing)} not found): {packages}")
    if os.geteuid() != 0:
        raise ServerError("Ceph's daemons are started by root only")


def environment(server: Server) -> dict[str, str]:
    """The environment variables that make AWS's clients use this server."""
    checksums = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
    return server.environment() | dict.fromkeys(checksums, "when_required")


def is_up(port: int) -> bool:
    """Whether a gateway answers there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def daemons(data: Path) -> dict[str, int]:
    """The processes of this folder's server that run, by name; an id that another process has by now is left out."""
    found = {}
    for name in DAEMONS:
        try:
            pid = int((data / f"{name}.pid").read_text())
            if f"{data}/ceph.conf".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found[name] = pid
        except (OSError, ValueError):
            continue
    return found


class _Starting:
    """The steps of a start; each is a program that is given the configuration."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._log = data / "start.log"

    def call(self, program: str, *arguments: str | Path, stdin: str = "") -> str:
        """Run a program to its end."""
        conf = () if program == "ceph-authtool" else ("--conf", f"{self._data}/ceph.conf")
        command = [program, *conf, *map(str, arguments)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
        with self._log.open("a") as log:
            log.write(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        if done.returncode:
            raise ServerError(f"{program} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return done.stdout

    def spawn(self, program: str, *arguments: str) -> None:
        """Run a daemon beside us."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [program, "--conf", f"{self._data}/ceph.conf", "-f", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self._data / f"{program}.pid").write_text(str(process.pid))

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Until a condition holds."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise ServerError(f"{what} did not start within {START_TIMEOUT_S:.0f} s: see {self._log}")
            time.sleep(0.1)


def start(data: Path, port: int, access_key: str, secret_key: str) -> Server:
    """Start a server with an empty store."""
    require_programs()
    port = port or free_port()
    if daemons(data):
        raise ServerError(f"a server of {data} runs already: stop it first")
    if not ports_are_free(port):
        raise ServerError(f"a port from {port} on is taken: choose another with --port")
    shutil.rmtree(data, ignore_errors=True)
    for name in ("mon", "osd", "rgw", "crash"):
        (data / name).mkdir(parents=True)
    data.chmod(0o700)
    fsid = str(uuid.uuid4())
    (data / "ceph.conf").write_text(
        CONFIGURATION.format(
            fsid=fsid, data=data, port=port, monitor=port + 1, first=port + 2, last=port + 19, store_bytes=STORE_BYTES
        )
    )
    try:
        _bring_up(data, port, fsid, access_key, secret_key)
    except BaseException:
        stop(data, keep=True)
        raise
    return Server(pid=daemons(data)["radosgw"], port=port, access_key=access_key, secret_key=secret_key)


def _bring_up(data: Path, port: int, fsid: str, access_key: str, secret_key: str) -> None:
    steps = _Starting(data)
    steps.call(
        "ceph-authtool", "--create-keyring", data / "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
    )
    steps.call(
        "monmaptool", "--create", "--clobber", "--addv", "a", f"[v2:127.0.0.1:{port + 1}/0]", "--fsid", fsid,
        data / "monmap",
    )  # fmt: skip
    steps.call("ceph-mon", "--mkfs", "-i", "a", "--monmap", data / "monmap", "--keyring", data / "keyring")
    steps.spawn("ceph-mon", "-i", "a")
    osd = str(uuid.uuid4())
    steps.call("ceph", "--connect-timeout", "25", "osd", "new", osd, "0", stdin="{}")
    steps.call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    steps.spawn("ceph-osd", "-i", "0")
    steps.wait("ceph-osd", lambda: " 1 up" in steps.call("ceph", "--connect-timeout", "9", "osd", "stat"))
    steps.spawn("radosgw", "-n", "client.rgw.a")
    steps.wait("radosgw", lambda: is_up(port))
    steps.call(
        "radosgw-admin", "-n", "client.rgw.a", "user", "create", "--uid=test", "--display-name=test",
        f"--access-key={access_key}", f"--secret={secret_key}", "--max-buckets=0",
    )  # fmt: skip


def stop(data: Path, *, keep: bool = False) -> None:
    """Stop the server of this folder; what it stored was in memory. `keep` leaves its logs."""
    for name in DAEMONS:
        if (pid := daemons(data).get(name)) is not None:
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while name in daemons(data) and time.monotonic() < deadline:
                time.sleep(0.05)
    if not keep:
        shutil.rmtree(data, ignore_errors=True)


def main() -> int:
    """Read the arguments and do what they ask."""
    parser = argparse.ArgumentParser(description="Ceph's S3 gateway on loopback.")
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="everything lives here (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7480, help="the gateway's; 0 finds one; others follow it up to +19")
    parser.add_argument("--access-key", default="testkey")
    parser.add_argument("--secret-key", default="testsecret123")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    try:
        if arguments.action == "start":
            server = start(data, arguments.port, arguments.access_key, arguments.secret_key)
            print("\n".join(f"export {name}={value}" for name, value in environment(server).items()))
        elif arguments.action == "stop":
            stop(data)
        else:
            up = len(daemons(data)) == len(DAEMONS)
            print("up" if up else "down")
            return 0 if up else 3
    except (ServerError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
