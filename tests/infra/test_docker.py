"""infra/docker: the image is built, without a registry, and colorizes photographs; it holds condgen and no secret.

buildah builds the Dockerfile on a Debian with Python that mmdebstrap makes, under the official image's name. Packages
come from this machine's own index and uv's cache. NVIDIA's libraries and Triton are left out of the image (4 GB), and
come from this machine where PyPI's torch wants them.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow.parquet as pq
import pytest
from container_images import Image, PrivateIndex, Store, debian_base, find_texts, missing_programs
from kube_manifests import pods, render
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scripts import ROOT, load_script

pytestmark = [pytest.mark.infra, pytest.mark.timeout(1200)]

DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"
PACKAGES = ("condgen", "pipelines", "jobs")
CONTEXT = (*PACKAGES, "infra", "constraints.txt", "pyproject.toml", "README.md", "LICENSE", ".dockerignore")
ADDED = {"etc/profile.d/condgen.sh", "etc/passwd", "etc/group", "src/constraints.txt", "src/pyproject.toml"}
LEFT_OUT = re.compile("nvidia-|triton$")


@dataclass(frozen=True)
class Built:
    """An image, and what it was built from.

    Attributes:
        base: the image that it is built on, mounted.
        image: the image, mounted.
        checkout: the folder that it was built from.
        planted: secrets by the places where they were.
        index: the private index that its packages were asked from first.
        build: builds the checkout again, under another name.
    """

    base: Image
    image: Image
    checkout: Path
    planted: dict[str, str]
    index: PrivateIndex
    build: Callable[[str], Image]


def pinned(python: str) -> dict[str, str]:
    """Return the versions of constraints.txt for a version of Python, by name."""
    requirements = map(Requirement, (ROOT / "constraints.txt").read_text().splitlines())
    where = {"python_version": python, "python_full_version": f"{python}.99"}
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in requirements
        if one.marker is None or one.marker.evaluate(where)
    }


def machine_nvidia() -> Path | None:
    """Return the folder of the CUDA libraries that this machine's torch uses, None if it uses none."""
    import torch

    return Path(torch.__file__).parents[1] / "nvidia" if torch.version.cuda else None


def plant(checkout: Path) -> dict[str, str]:
    """Copy what an image is built from, and put secrets beside it and into it as users would have them there."""
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__", ".state"))
        else:
            shutil.copy(source, checkout / name)
    files = {
        ".env": "AWS_SECRET_ACCESS_KEY={}\n",
        "jobs/.env": "AWS_SECRET_ACCESS_KEY={}\n",
        "credentials.json": '{{"private_key": "{}"}}\n',
        "infra/docker/uv.toml": 'index-url = "https://reader:{}@packages.example.com/simple"\n',
        ".git/config": '[remote "origin"]\n    url = https://me:{}@git.example.com/condgen.git\n',
    }
    planted = {}
    for name, text in files.items():
        planted[name] = secrets.token_hex(16)
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(text.format(planted[name]))
    return planted


def package_options(folder: Path, venv: Any, index: PrivateIndex, *, can_overlay: bool) -> list[str]:
    """Return buildah's options for a build whose packages come from an index, and the rest from this machine's own.

    Args:
        folder: where uv's configuration is written.
        venv: the script that makes the environment, which knows this machine's index.
        index: the index that is asked first.
        can_overlay: whether what the build writes to uv's cache can be thrown away.
    """
    own = venv.environment_for_uv()
    indexes = f'[[index]]\nurl = "{index.url}"\n'
    if url := own.get("UV_DEFAULT_INDEX"):
        indexes += f'[[index]]\nurl = "{url}"\ndefault = true\n'
    (folder / "uv.toml").write_text(f'cache-dir = "/cache"\n{indexes}')
    cache = subprocess.run([venv.find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    options = [f"--volume={cache}:/cache{':O' if can_overlay else ''}", f"--secret=id=uv,src={folder / 'uv.toml'}"]
    if certificates := own.get("SSL_CERT_FILE"):
        options += [f"--secret=id=certificates,src={certificates}"]
        options += ["--build-arg=SSL_CERT_FILE=/run/secrets/certificates"]
    return options


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image, built once from a checkout with secrets, with packages from an index that asks for a password."""
    if missing := missing_programs():
        pytest.skip(f"no image without {', '.join(missing)}: as root, make programs-infra installs them")
    if os.getuid():
        pytest.skip("only root can build an image without a daemon")
    venv = load_script("venv")
    folder = tmp_path_factory.mktemp("docker")
    for name in ("checkout", "store", "wheels"):
        (folder / name).mkdir()
    planted = plant(folder / "checkout")
    planted |= {name: secrets.token_hex(16) for name in ("UV_INDEX", "PIP_INDEX_URL", "the index")}
    env = {name: f"https://me:{planted[name]}@packages.example.com/simple" for name in ("UV_INDEX", "PIP_INDEX_URL")}
    store = Store(folder / "store")
    with ExitStack() as stack:
        stack.callback(store.remove)
        base = debian_base(folder / "base.tar")
        store.add(base, folder / "base.tar", "/")
        (folder / "base.tar").unlink()
        store.add(re.findall("^ARG UV=(.*)", DOCKERFILE.read_text(), re.MULTILINE)[0], Path(venv.find_uv()), "/uv")
        versions = pinned(base.partition(":")[2].partition("-")[0]) if machine_nvidia() else {}
        absent = {name: version for name, version in versions.items() if LEFT_OUT.match(name)}
        index = stack.enter_context(PrivateIndex(folder / "wheels", absent, planted["the index"]))
        stack.callback(index.shutdown)
        threading.Thread(target=index.serve_forever, args=(0.05,), daemon=True).start()
        options = package_options(folder, venv, index, can_overlay=store.driver == "overlay")
        options += [f"--build-arg=BASE={base}", "--build-arg=TORCH_BACKEND="]

        def build(name: str) -> Image:
            command = ["bud", "--isolation=chroot", "--pull-never", "--layers", "--file", DOCKERFILE, "--tag", name]
            store.buildah(*command, *options, folder / "checkout", env=env)
            return store.mount(name)

        yield Built(store.mount(base), build("condgen:test"), folder / "checkout", planted, index, build)


@pytest.fixture(scope="module")
def image(built: Built) -> Image:
    return built.image


def lint(dockerfile: str) -> str:
    hadolint = Path(sys.executable).parent / "hadolint"
    return subprocess.run([hadolint, "-"], input=dockerfile, capture_output=True, text=True, check=False).stdout


def test_hadolint_finds_nothing_and_would_find_a_mistake() -> None:
    assert lint(DOCKERFILE.read_text()) == ""
    assert "DL3002" in lint(DOCKERFILE.read_text().replace("USER 1000:1000", "USER root"))


def test_the_images_uv_is_that_of_the_environment() -> None:
    assert f"ARG UV=ghcr.io/astral-sh/uv:{load_script('venv').UV_VERSION}\n" in DOCKERFILE.read_text()


def test_the_page_knows_the_build_arguments_and_their_defaults() -> None:
    page = (ROOT / "docs" / "operations.md").read_text().partition("| build argument")[2].partition("### ")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:3]] for line in page.splitlines() if line.startswith("| `")]
    lines = DOCKERFILE.read_text().splitlines()
    assert [name for name, _ in rows] == ["TORCH_BACKEND", "BASE", "UV", "SSL_CERT_FILE"]
    assert [name for name, default in rows if f"ARG {name}={default}".rstrip("=") not in lines] == []


def test_all_versions_are_those_of_constraints(image: Image) -> None:
    (python,) = re.findall(r"python(3\.\d+)", str(image.site_packages))
    versions = pinned(python)
    installed = {
        canonicalize_name(one.metadata["Name"]): one.version.partition("+")[0]
        for one in distributions(path=[str(image.site_packages)])
    }
    assert installed.pop("condgen") == image.run("condgen", "--version").stdout.split()[1]
    assert {"torch", "torchvision", "ray", "pyarrow"} <= set(installed)
    assert {name: version for name, version in installed.items() if versions.get(name) != version} == {}


def test_the_layers_add_condgen_its_environment_and_its_user_alone(built: Built, image: Image) -> None:
    for package in PACKAGES:
        has = {name for name in files(image.site_packages / package) if "__pycache__" not in name}
        assert has == {name for name in files(built.checkout / package) if not Path(name).name.startswith(".")}
    before, after = files(built.base.root), files(image.root)
    outside = {name for name in after if not name.startswith("opt/condgen/")}
    assert {name for name in outside if before.get(name) != after[name]} - {"etc/hosts"} == ADDED
    assert set(before) <= set(after)


def test_no_process_compiles_what_is_in_the_image(image: Image) -> None:
    missing = []
    for package in (*PACKAGES, "ray", "torch"):
        for source in (image.site_packages / package).rglob("*.py"):
            (compiled, *_) = [*source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc"), None]
            when = int.from_bytes(compiled.read_bytes()[8:12], "little") if compiled else None
            missing += [source] if when != int(source.stat().st_mtime) else []
    assert len(missing) < 10, missing[:20]  # templates of programs are none


def files(folder: Path) -> dict[str, int]:
    """Return all that is no folder below a folder, with its size in bytes."""
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return {str(path.relative_to(folder)): path.lstat().st_size for path in paths}


def test_nobody_is_root_and_only_tmp_can_be_written_to(image: Image) -> None:
    user = image.description["config"]["User"]
    for pod in pods(render("prod")):
        security = pod.spec["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}", pod.name
    script = "id -u; id -g; id -G; pwd; for i in / $HOME /opt/condgen /etc /var/tmp; do touch $i/x && echo $i; done"
    done = image.run("bash", "-c", script)
    assert done.stdout.split() == ["1000", "1000", "1000", "/tmp", "/tmp"], done.stderr
    assert done.stderr.count("Read-only file system") == 4


@pytest.mark.parametrize("shell", [["bash", "-c"], ["bash", "-lc"]], ids=["plain shell", "login shell"])
def test_a_shell_finds_what_kuberay_starts(image: Image, shell: list[str]) -> None:
    done = image.run(*shell, "type -P python ray condgen bash timeout; ray --version")
    assert done.stdout.split()[:3] == [f"/opt/condgen/bin/{name}" for name in ("python", "ray", "condgen")], done.stderr
    assert f"version {pinned('3.12')['ray']}" in done.stdout


WATCH = """
import contextlib, os, subprocess, sys, time
command = subprocess.Popen(sys.argv[1:])
users = set()
while command.poll() is None:
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError):
            users.add(os.stat(f"/proc/{process}").st_uid)
    time.sleep(0.5)
print("users:", *users)
sys.exit(command.returncode)
"""


def test_ten_photographs_are_colorized(
    image: Image, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, results = tmp_path / "archive", tmp_path / "results"
    archive.mkdir()
    results.mkdir()
    os.chown(results, 1000, 1000)
    sources = sorted(photos.glob("*.jpg"))
    for number in range(10):
        with PIL.Image.open(sources[number % len(sources)]) as photo:
            photo.rotate(number).save(archive / f"{number}.jpg")
    folders = {"archive": archive, "results": results}
    if nvidia := machine_nvidia():
        folders["nvidia"] = nvidia
    command = ["condgen", "colorize", "/mnt/archive", "/mnt/results", "--draws", "1"]
    done = image.run("python", "-c", WATCH, *command, folders=folders, env={"PYTHONPATH": "/mnt"})
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "users: 1000"
    assert sum(pq.read_table(path).num_rows for path in results.glob("draws/*.parquet")) == 10
    with capsys.disabled():
        print(f"\nthe image without NVIDIA's libraries: {image.size_bytes / 1e9:.2f} GB in {len(image.layers)} layers")


def test_no_layer_no_configuration_and_no_history_holds_a_secret(built: Built, image: Image) -> None:
    known = ["ARG SSL_CERT_FILE", "Conditional image models at archive scale"]  # a history's, and a layer's
    places = find_texts(image.store.layer_files(), [*known, *built.planted.values()])
    assert {name: places[secret] for name, secret in built.planted.items() if secret in places} == {}
    assert set(places) == set(known)
    if machine_nvidia():
        assert built.index.served  # with the password that is nowhere


def test_a_change_of_condgen_alone_makes_one_new_layer(built: Built, image: Image) -> None:
    with (built.checkout / "condgen" / "version.py").open("a") as file:
        file.write("# a change\n")
    again = built.build("condgen:again")
    assert again.layers[:-1] == image.layers[:-1]
    assert again.layers[-1] != image.layers[-1]
    assert (again.site_packages / "condgen" / "version.py").read_text().endswith("# a change\n")
