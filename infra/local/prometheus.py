#!/usr/bin/env python3
"""Prometheus over the cluster that cluster.py started, with condgen's alerts, until Ctrl-C.

    prometheus.py [--port 9090] [--cluster DIR]    # then open http://127.0.0.1:9090

Prometheus is Debian's, from the PATH or as programs.py unpacked it into .programs/. It listens on 127.0.0.1 alone, and
keeps what it collects beside the cluster's files until the cluster is stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cluster import DEFAULT_DATA, ClusterError, running

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "infra" / "monitoring"


def find_prometheus() -> str:
    """The program: on the PATH, or unpacked by programs.py."""
    unpacked = ROOT / ".programs" / "usr" / "bin" / "prometheus"
    found = shutil.which("prometheus") or (str(unpacked) if unpacked.exists() else None)
    if found is None:
        raise ClusterError("no Prometheus found: infra/local/programs.py unpacks Debian's")
    return found


def write_config(targets: Path, folder: Path) -> Path:
    """Write infra/monitoring/prometheus.yml for this list of machines into a folder; returns the file."""
    text = (MONITORING / "prometheus.yml").read_text()
    text = re.sub(r"(?<=files: \[).*(?=\])", json.dumps(str(targets)), text)
    text = text.replace("alerts.yaml", json.dumps(str(MONITORING / "alerts.yaml")))
    config = folder / "prometheus.yml"
    config.write_text(text)
    return config


def main() -> int:
    """Read the arguments and run Prometheus."""
    parser = argparse.ArgumentParser(description="Prometheus over the local cluster.")
    parser.add_argument("--port", type=int, default=9090, help="(default: %(default)s)")
    parser.add_argument("--cluster", type=Path, default=DEFAULT_DATA, help="its files (default: %(default)s)")
    arguments = parser.parse_args()
    folder = arguments.cluster.resolve()
    try:
        program, config = find_prometheus(), write_config(running(folder).metrics_targets, folder)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    storage, address = f"--storage.tsdb.path={folder / 'prometheus'}", f"127.0.0.1:{arguments.port}"
    print(f"http://{address}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with subprocess.Popen([program, f"--config.file={config}", storage, f"--web.listen-address={address}"]) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # a terminal sends it to both
                server.terminate()


if __name__ == "__main__":
    raise SystemExit(main())
