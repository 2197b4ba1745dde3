#!/usr/bin/env python3
"""Get the programs that tests need and that are no Python packages, from Debian's or Ubuntu's own packages.

    programs.py            # Prometheus, unpacked into .programs/: no root, nothing of the system changes
    programs.py --system   # as root: Ceph's gateway and Chromium too, installed by apt-get
    programs.py --infra    # as root: Slurm and what builds images as well, for make test-infra

What is there already is left alone. SeaweedFS and the photographs are Python packages, which venv.py installs. Only the
standard library is used.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".programs"
UNPACKED = {"prometheus": "prometheus"}
INSTALLED = {
    "radosgw": "radosgw",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "ceph": "ceph-common",
    "chromium": "chromium",
}
FOR_INFRA = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "pgrep": "procps",
}
TRIES = 3
WAIT_S = 5.0
NETWORK = ["-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=30", "-o", "DPkg::Lock::Timeout=120"]


class ProgramError(Exception):
    """A program can't be had; the message says why."""


def apt_get(*arguments: str, cwd: Path | None = None) -> None:
    """Run apt-get, again where it fails: a mirror that is being updated answers with errors for a while."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    command = ["apt-get", "--quiet=2", *NETWORK, *arguments]
    for left in reversed(range(TRIES)):
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if left:
            time.sleep(WAIT_S)
    complaint = (done.stderr or done.stdout).strip().splitlines()[-5:]
    raise ProgramError(f"apt-get {' '.join(arguments)} failed {TRIES} times: " + "; ".join(complaint))


def unpack(packages: list[str]) -> None:
    """Download packages, with lists of our own, and unpack them without installing them."""
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        folder = Path(name)
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        own = ["-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache", "-o", "APT::Sandbox::User="]
        own += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        apt_get(*own, "update")
        apt_get(*own, "download", *packages, cwd=folder)
        for file in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", file, PLACE], check=True)


def main() -> int:
    """Read the arguments and get what is missing."""
    parser = argparse.ArgumentParser(description="Get the programs that tests need, from Debian's packages.")
    parser.add_argument("--system", action="store_true", help="as root: install what can't be unpacked")
    parser.add_argument("--infra", action="store_true", help="as root: that, and what make test-infra needs besides")
    arguments = parser.parse_args()
    may_install = arguments.system or arguments.infra
    installed = INSTALLED | (FOR_INFRA if arguments.infra else {})
    PLACE.mkdir(exist_ok=True)
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), str(PLACE / "usr" / "bin")])
    to_unpack = [package for program, package in UNPACKED.items() if shutil.which(program, path=search) is None]
    to_install = [package for program, package in installed.items() if shutil.which(program) is None]
    if shutil.which("apt-get") is None:
        if to_unpack or to_install:
            print(
                "condgen: no apt-get here: to test with Prometheus, Ceph, Slurm and buildah, put them on the PATH",
                file=sys.stderr,
            )
        return int(may_install)
    try:
        if to_unpack:
            print(f"condgen: unpacking {', '.join(to_unpack)} into {PLACE.name}/", file=sys.stderr, flush=True)
            unpack(to_unpack)
        if to_install and may_install:
            print(f"condgen: installing {', '.join(to_install)}", file=sys.stderr, flush=True)
            apt_get("update")
            apt_get("install", "--yes", "--no-install-recommends", *to_install)
    except (ProgramError, OSError, subprocess.CalledProcessError) as error:
        print(f"{'error' if may_install else 'condgen'}: {error}", file=sys.stderr)
        return int(may_install)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
