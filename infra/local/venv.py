#!/usr/bin/env python3
"""Make the project's virtual environment with uv; do nothing where it is up to date.

    venv.py --extras demo,dev        # .venv from constraints.txt, the project itself editable
    venv.py --oldest --venv DIR      # the lowest versions that pyproject.toml admits
    venv.py --requirements FILE --venv DIR      # one without the project: what a list names
    venv.py --compile                # resolve constraints.txt anew
    venv.py --check-python           # nothing, or an error where this Python is not supported

uv is the one on the PATH if it is recent enough, else a private one in .uv/, installed with pip. Where packages come
from is the user's affair: uv's own configuration counts first; where there is none, pip's (index-url, extra-index-url,
find-links, cert, trusted-host) is passed on to uv, which would not see it by itself. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = ROOT / ".uv"
UV_VERSION = "0.13.8"
UV_OLDEST = (0, 9, 0)
UV_INDEX_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
)
SYSTEM_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ssl/cert.pem")
OLDEST_PYTHON = "3.12"
NO_DEPS = Path("infra/local/no-deps.txt")


def parse_pip_config(listing: str) -> dict[str, str]:
    """The settings in the output of `pip config list`, the strongest of each name: environment, install, global."""
    found: dict[str, tuple[int, str]] = {}
    ranks = {":env:": 3, "install": 2, "global": 1}
    for line in listing.splitlines():
        match = re.fullmatch(r"(:env:|install|global)\.([a-z-]+)=(.*)", line.strip())
        if match is None:
            continue
        rank, name = ranks[match[1]], match[2]
        if name not in found or found[name][0] < rank:
            found[name] = (rank, str(ast.literal_eval(match[3])))
    return {name: value for name, (_, value) in found.items()}


def uv_settings(pip: Mapping[str, str], *, indexes_are_set: bool) -> dict[str, str]:
    """uv's environment variables that say what pip's settings say."""
    settings: dict[str, str] = {}
    if cert := pip.get("cert"):
        settings["SSL_CERT_FILE"] = cert
    if indexes_are_set:
        return settings
    if index := pip.get("index-url"):
        settings["UV_DEFAULT_INDEX"] = index
    if extra := pip.get("extra-index-url"):
        settings["UV_INDEX"] = " ".join(extra.split())
        # pip takes the best version of all its indexes, uv by itself the first index that has the name.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if links := pip.get("find-links"):
        settings["UV_FIND_LINKS"] = ",".join(links.split())
    if hosts := pip.get("trusted-host"):
        settings["UV_INSECURE_HOST"] = " ".join(hosts.split())
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        settings["UV_NO_INDEX"] = "1"
    return settings


def uv_is_configured(environment: Mapping[str, str]) -> bool:
    """Whether the user has told uv itself where packages come from."""
    if any(environment.get(name) for name in (*UV_INDEX_VARIABLES, "UV_CONFIG_FILE")):
        return True
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return any(path.is_file() for path in (home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")))


def environment_for_uv() -> dict[str, str]:
    """This process's environment, completed by pip's settings where uv has none of its own."""
    environment = dict(os.environ)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"):
        environment.pop(name, None)
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = uv_settings(parse_pip_config(listing), indexes_are_set=uv_is_configured(environment))
    if "SSL_CERT_FILE" not in settings and any(Path(path).exists() for path in SYSTEM_CERTIFICATES):
        settings["UV_SYSTEM_CERTS"] = "1"
    for name, value in settings.items():
        environment.setdefault(name, value)
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    return environment


def uv_version(uv: str | Path) -> tuple[int, ...]:
    """The version of an uv, (0,) where it does not run."""
    try:
        out = subprocess.run([str(uv), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", out)
    return tuple(int(part) for part in match.groups()) if match else (0,)


def find_uv() -> str:
    """The path of an uv that is recent enough; installs a private one where there is none."""
    on_path = shutil.which("uv")
    if on_path and uv_version(on_path) >= UV_OLDEST:
        return on_path
    candidates = [PRIVATE / "site" / "bin" / "uv", PRIVATE / "venv" / "bin" / "uv"]
    for candidate in candidates:
        if uv_version(candidate) >= UV_OLDEST:
            return str(candidate)
    say(f"installing uv {UV_VERSION} into {PRIVATE.name}/")
    requirement = f"uv=={UV_VERSION}"
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    site, venv = PRIVATE / "site", PRIVATE / "venv"
    attempts = [
        [[sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(site), requirement]],
        [
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement],
        ],
    ]
    complaints: list[str] = []
    for commands, candidate in zip(attempts, candidates, strict=True):
        for command in commands:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                complaints.append((done.stderr or done.stdout).strip())
                break
        if uv_version(candidate) >= UV_OLDEST:
            return str(candidate)
    raise SystemExit(
        "\n".join(complaints)
        + f"\nerror: could not install uv: give {sys.executable} pip or venv (Debian: apt install python3-venv), "
        "or put uv on the PATH"
    )


def say(message: str) -> None:
    """One line to the user."""
    print(f"condgen: {message}", file=sys.stderr, flush=True)


def run_uv(*arguments: str | Path) -> None:
    """Run uv in the project's root; leave with its exit code where it fails."""
    command = [find_uv(), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment_for_uv(), check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(['uv', *command[1:3]])} failed (above): mend it and run make again")


def fingerprint(resolution: str, python: str) -> str:
    """What decides the environment's content, digested."""
    digest = hashlib.sha256(f"{resolution}\0{python}\0{ROOT}".encode())
    for name in ("pyproject.toml", "constraints.txt", NO_DEPS):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def make(venv: Path, extras: frozenset[str], *, oldest: bool) -> None:
    """Make the environment, or complete it, unless its stamp says that all is there."""
    python = OLDEST_PYTHON if oldest else sys.executable
    wanted = fingerprint("oldest" if oldest else "constraints", python)
    stamp = venv / "condgen-stamp.json"
    try:
        state = json.loads(stamp.read_text())
    except (OSError, ValueError):
        state = {}
    installed = frozenset(state.get("extras", ()))
    if state.get("fingerprint") == wanted and extras <= installed and (venv / "bin" / "condgen").exists():
        return
    if state.get("fingerprint") == wanted:
        extras |= installed
    stamp.unlink(missing_ok=True)
    say(f"installing into {venv.name} (the first time some gigabytes, a minute or two)")
    if not (venv / "bin" / "python").exists() or state.get("root") != str(ROOT):
        run_uv("venv", "--quiet", "--clear", "--python", python, venv)
    versions = ["--resolution", "lowest-direct"] if oldest else ["-c", "constraints.txt", "-b", "constraints.txt"]
    names = ",".join(sorted(extras))
    run_uv("pip", "install", "--quiet", "--python", venv / "bin" / "python", *versions, "-e", f".[{names}]")
    run_uv("pip", "install", "--quiet", "--python", venv / "bin" / "python", "--no-deps", "-r", NO_DEPS)
    stamp.write_text(json.dumps({"fingerprint": wanted, "extras": sorted(extras), "root": str(ROOT)}) + "\n")


def make_from_list(venv: Path, requirements: Path) -> None:
    """Make an environment of what a list names, without the project, unless its stamp says that all is there."""
    wanted = hashlib.sha256(f"{sys.executable}\0{requirements.read_text()}".encode()).hexdigest()
    stamp = venv / "condgen-stamp.json"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"installing {requirements.name} into {venv.name}")
    run_uv("venv", "--quiet", "--clear", "--python", sys.executable, venv)
    run_uv("pip", "install", "--quiet", "--python", venv / "bin" / "python", "-r", requirements)
    stamp.write_text(wanted)


def compile_constraints() -> None:
    """Write constraints.txt: the newest version of everything, for every platform, naming no index."""
    flags = ["--universal", "--all-extras", "--no-emit-index-url", "--no-annotate", "--no-header", "--upgrade"]
    run_uv("pip", "compile", "--quiet", *flags, "--python-version", "3.11", "pyproject.toml", "-o", "constraints.txt")
    say("constraints.txt is resolved anew")


def check_python(version: tuple[int, int]) -> None:
    """Leave with an error where pyproject.toml doesn't admit this Python."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    oldest, after = map(int, re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', pyproject)[0])
    if not (3, oldest) <= version < (3, after):
        found = ".".join(map(str, version))
        raise SystemExit(f"error: {sys.executable} is Python {found}; 3.{oldest} to 3.{after - 1} is needed")


def main() -> None:
    """Read the arguments and make what they ask for."""
    parser = argparse.ArgumentParser(description="Make the project's virtual environment with uv.")
    parser.add_argument("--venv", default=".venv", help="the environment's folder, in the project's root")
    parser.add_argument("--extras", default="demo,dev", help="extras of pyproject.toml, with commas")
    parser.add_argument("--oldest", action="store_true", help="the lowest versions admitted, on Python 3.12")
    parser.add_argument("--requirements", help="a list of packages to install in place of the project, in the root")
    parser.add_argument("--compile", action="store_true", help="write constraints.txt anew")
    parser.add_argument("--check-python", action="store_true", help="only say whether this Python is supported")
    arguments = parser.parse_args()
    check_python(sys.version_info[:2])
    if arguments.check_python:
        return
    if arguments.compile:
        compile_constraints()
    elif arguments.requirements:
        make_from_list(ROOT / arguments.venv, ROOT / arguments.requirements)
    else:
        make(ROOT / arguments.venv, frozenset(arguments.extras.split(",")), oldest=arguments.oldest)


if __name__ == "__main__":
    main()
