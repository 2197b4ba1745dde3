"""Container images without a registry and without a daemon: buildah builds them in a store of the test's own.

The images that a Dockerfile starts from come from Debian's packages and from this machine's uv, under the names of the
real ones. A finished image runs as Kubernetes would run it: as its user, in namespaces of its own, without network, and
with nothing to write to but /tmp.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""Debian's releases, by the version of their Python."""

PROGRAMS = ("buildah", "mmdebstrap", "ip", "unshare")

# What `docker run --read-only --tmpfs /tmp --network none` sets up; what is left in $0 and "$@" are the image's root,
# folders to mount below /mnt, "--", the user, and the command.
RUN = r"""
set -eu
root=$0
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs -o nosuid,nodev,size=2g shm "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,noexec,size=2g,mode=1777 tmp "$root/tmp"
mount -t tmpfs -o size=1m,mode=755 mnt "$root/mnt"
while [ "$1" != -- ]; do
    mkdir "$root/mnt/${1%%=*}"
    mount --bind "${1#*=}" "$root/mnt/${1%%=*}"
    shift
done
mount -o remount,bind,ro "$root/mnt"
mount -o remount,bind,ro "$root"
ip link set lo up
user=$2 folder=$3
shift 3
exec chroot --userspec="$user" "$root" env -i --chdir="$folder" setpriv --no-new-privs env "$@"
"""


def missing_programs() -> list[str]:
    """Return the programs that building an image needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Image:
    """An image of a store, with one container of it mounted at ``root``."""

    store: Store
    name: str
    root: Path

    @cached_property
    def description(self) -> dict[str, Any]:
        """The image's configuration and history, as OCI has them."""
        return dict(json.loads(self.store.buildah("inspect", "--type", "image", self.name))["OCIv1"])

    @property
    def layers(self) -> list[str]:
        """The digests of the layers, from the base up."""
        return list(self.description["rootfs"]["diff_ids"])

    @cached_property
    def size_bytes(self) -> int:
        """The size of all layers, not compressed."""
        images = json.loads(self.store.buildah("images", "--json", self.name))
        number, unit = re.fullmatch(r"([\d.]+) ([KMG]?B)", images[0]["size"]).groups()  # type: ignore[union-attr]
        return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])

    @property
    def site_packages(self) -> Path:
        """The folder of the installed packages."""
        (folder,) = (self.root / "opt" / "condgen" / "lib").glob("python3.*/site-packages")
        return folder

    def run(
        self, *command: str, folders: Mapping[str, Path] | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the image, with its user, its environment and its folder.

        Args:
            command: program and arguments.
            folders: folders of this machine by their names below ``/mnt``.
            env: variables besides the image's own.
        """
        config = self.description["config"]
        variables = [*config["Env"], *(f"{name}={value}" for name, value in (env or {}).items())]
        mounts = [f"{name}={path}" for name, path in (folders or {}).items()]
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        inside = ["--", config["User"], config["WorkingDir"], *variables, *command]
        return subprocess.run(
            ["unshare", *namespaces, "bash", "-c", RUN, self.root, *mounts, *inside],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


class Store:
    """Images and containers in a folder of their own, which ``remove`` removes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # With overlayfs a layer is written once; vfs, which works everywhere, copies the whole image for each.
        self.driver = "overlay" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "vfs"

    def buildah(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Run buildah and return what it wrote to stdout; a failure raises with what it wrote to stderr."""
        place = ["--root", self.folder / "images", "--runroot", self.folder / "run", "--storage-driver", self.driver]
        done = subprocess.run(
            ["buildah", *place, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(self.folder), **(env or {})},
        )
        assert done.returncode == 0, f"buildah {arguments[0]}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def add(self, name: str, source: Path, target: str) -> None:
        """Make an image of one file, or of the content of a tar file, and give it this name."""
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, source, target)
        self.buildah("commit", "--quiet", "--rm", container, name)

    def mount(self, name: str) -> Image:
        """Mount a container of an image."""
        container = self.buildah("from", "--pull-never", name).strip()
        return Image(self, name, Path(self.buildah("mount", container).strip()))

    def layer_files(self) -> list[Path]:
        """Return the folders that hold the files of all layers, and the configurations of all images."""
        layers = "overlay/*/diff" if self.driver == "overlay" else "vfs/dir"
        return [self.folder / "images" / f"{self.driver}-images", *(self.folder / "images").glob(layers)]

    def remove(self) -> None:
        """Unmount everything, and remove images and containers."""
        self.buildah("rm", "--all")
        subprocess.run(["umount", "--quiet", self.folder / "images" / "overlay"], check=False)
        shutil.rmtree(self.folder)


def debian_base(target: Path) -> str:
    """Write a minimal Debian with Python to a tar file; return the name of the official image with that Python."""
    suite = SUITES.get(f"{sys.version_info[0]}.{sys.version_info[1]}", "trixie")
    packages = "--include=python3,ca-certificates,libstdc++6"  # the official image has the last one with apt
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", packages, *without, suite, target], check=True)
    version = next(python for python, release in SUITES.items() if release == suite)
    return f"docker.io/library/python:{version}-slim-{suite}"


class PrivateIndex(ThreadingHTTPServer):
    """A package index for those who know its password alone. It has empty packages of the names and versions given.

    An installer that asks it first takes these from it, and everything else from the next index.
    """

    USER = "reader"

    def __init__(self, folder: Path, packages: Mapping[str, str], password: str) -> None:
        super().__init__(("127.0.0.1", 0), _IndexHandler)
        self.folder, self.served = folder, set[str]()
        self.url = f"http://{self.USER}:{password}@127.0.0.1:{self.server_port}/simple"
        self.authorization = "Basic " + base64.b64encode(f"{self.USER}:{password}".encode()).decode()
        self.files = {name: write_empty_wheel(folder, name, version) for name, version in packages.items()}


class _IndexHandler(BaseHTTPRequestHandler):
    server: PrivateIndex
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        place = self.path.strip("/").split("/")
        if self.headers["Authorization"] != self.server.authorization:
            self._answer(401, b"", **{"WWW-Authenticate": "Basic"})
        elif place[0] == "simple" and place[-1] in self.server.files:
            file = self.server.files[place[-1]].name
            self._answer(200, f'<a href="/files/{file}">{file}</a>'.encode(), **{"Content-Type": "text/html"})
        elif place[0] == "files" and (self.server.folder / place[-1]).is_file():
            self.server.served.add(place[-1])
            self._answer(200, (self.server.folder / place[-1]).read_bytes())
        else:
            self._answer(404, b"")

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def write_empty_wheel(folder: Path, name: str, version: str) -> Path:
    """Write a wheel that installs nothing but its own metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{stem}.dist-info/{file},,\n" for file in (*files, "RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, "RECORD": record}.items():
            wheel.writestr(f"{stem}.dist-info/{file}", text)
    return path


def find_texts(folders: Sequence[Path], texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the files below folders that hold one of these texts, by the text, in whatever kind of file."""
    command = ["grep", "--recursive", "--only-matching", "--text", "--fixed-strings", "--null", "--file=-", *folders]
    done = subprocess.run(
        command, input="\n".join(texts), capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        file, _, text = line.partition("\0")
        found.setdefault(text, []).append(file)
    return found
