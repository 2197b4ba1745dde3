"""What a gallery costs on results of 2,000 and of 200,000 draws: first page, a jump, a search, an order, its memory.

    python benchmarks/gallery.py [--draws 2000,200000] [--repeats 5] [--out DIR]

Results are made in a real S3 server on this machine (infra/local/s3.py), without a model: rows of real photographs'
crops, in draws files of a real plan, with an evaluation of plausible values. `condgen gallery` is a process of its own,
started anew for each time that is taken before there is an index. Seconds are those of a browser's requests: a page is
its JSON and the thumbnails of its images, all at once over six connections.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import describe, peak_mib

from pipelines.datasets.chunk import Chunk, FilePart, chunks_to_table
from pipelines.datasets.chunking import chunk_name
from pipelines.results.files import Draw, draws_name, encode_draws
from pipelines.results.plan import write_plan
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import Store, open_store

ROOT = Path(__file__).resolve().parents[1]
DRAWS, CHUNK, PAGE = 2, 64, 24
PHOTOGRAPHS, SIDE_PX = 400, 128
METRICS = ("psnr", "ssim", "rgb_error", "ab_error", "auc", "colorfulness", "chroma", "total_variation", "error")
PART = 128


def photographs(count: int) -> list[bytes]:
    """Crops of real photographs, 128 px, as JPEG: those of the demo's packages."""
    import skimage.data
    from PIL import Image

    whole = [Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]
    random, found = np.random.default_rng(0), []
    for number in range(count):
        image = whole[number % len(whole)]
        left, top = (int(random.integers(0, side - SIDE_PX)) for side in image.size)
        sink = io.BytesIO()
        image.crop((left, top, left + SIDE_PX, top + SIDE_PX)).save(sink, "jpeg", quality=90)
        found.append(sink.getvalue())
    return found


def make_results(store: Store, archive: str, num_draws: int, images: list[bytes]) -> None:
    """Write results of a finished job, and an evaluation beside them."""
    count = num_draws // DRAWS
    names = [f"album-{number // 1000:04d}/{number:07d}.jpg" for number in range(count)]
    chunks = []
    for ordinal, first in enumerate(range(0, count, CHUNK)):
        files = tuple(FilePart(name, 6_000) for name in names[first : first + CHUNK])
        name = chunk_name(ordinal, [one.name for one in files])
        chunks.append(
            Chunk(ordinal=ordinal, name=name, shard=None, samples=len(files), first_sample=first, files=files)
        )
    settings = BatchSettings(draws=DRAWS, chunk_samples=CHUNK).to_json()
    model = {"uri": "model", "family": "none", "digest": "0" * 64}
    plan = write_plan(store, chunks_to_table(chunks), archive=archive, model=model, settings=settings).plan

    def write(chunk: Chunk) -> None:
        draws = [
            Draw(
                source=file.name,
                key=file.name.removesuffix(".jpg"),
                draw=k,
                seed=0,
                image=images[(chunk.first_sample + place * DRAWS + k) % len(images)],
                path=f"{file.name.removesuffix('.jpg')}.draw{k}.jpg",
                width=SIDE_PX,
                height=SIDE_PX,
                source_sha256=hashlib.sha256(file.name.encode()).hexdigest(),
            )
            for place, file in enumerate(chunk.files)
            for k in range(DRAWS)
        ]
        footer = {"job": "benchmark", "chunk": chunk.name, "versions": {"condgen": "0"}}
        store.write(draws_name(chunk.name), encode_draws(draws, [], footer, samples=chunk.samples))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, chunks))
    store.write("evaluation.parquet", evaluation(names))
    store.write_json("evaluation.json", {"format": "condgen-evaluation-1"})
    counts = {"images": count, "with_draws": count, "errors": 0, "filtered": 0}
    store.write_json("run.json", {"plans": [{"name": plan.name}], "counts": counts})


def evaluation(names: list[str]) -> bytes:
    """An `evaluation.parquet` as `condgen evaluate` lays it out: 7 rows an image, parts of 128 images, lists too."""
    random, sink = np.random.default_rng(1), io.BytesIO()
    answers = [
        ("reference", -1),
        ("draws", -1),
        ("draws", 0),
        ("draws", 1),
        ("best", 0),
        ("grey", -1),
        ("mean_color", -1),
    ]
    schema = pa.schema(
        [
            ("source", pa.string()),
            ("key", pa.string()),
            ("answer", pa.string()),
            ("draw", pa.int32()),
            ("draws", pa.int32()),
        ]
        + [(name, pa.float64()) for name in (*METRICS, "energy_score", "diversity", "nll", "marginal_nll")]
        + [("cells", pa.list_(pa.int16())), ("cell_pixels", pa.list_(pa.int32())), ("cell_hits", pa.list_(pa.int64()))]
    )
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for first in range(0, len(names), PART):
            part = names[first : first + PART]
            rows = len(part) * len(answers)
            values: dict[str, Any] = {
                "source": np.repeat(part, len(answers)),
                "key": np.repeat([name.removesuffix(".jpg") for name in part], len(answers)),
                "answer": [answer for answer, _ in answers] * len(part),
                "draw": pa.array([draw for _, draw in answers] * len(part), pa.int32()),
                "draws": pa.array([2 if one == ("draws", -1) else 1 for one in answers] * len(part), pa.int32()),
            }
            values |= {field.name: random.random(rows) for field in schema if field.type == pa.float64()}
            lists = [list(range(30))] * rows
            values |= {name: pa.array(lists, schema.field(name).type) for name in ("cells", "cell_pixels", "cell_hits")}
            writer.write_table(pa.table(values, schema=schema))
    return sink.getvalue()


@dataclass
class Server:
    """A gallery's process, and a client as a browser is one: six connections."""

    process: subprocess.Popen[str]
    client: httpx.Client

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def page(self, **query: Any) -> list[str]:
        """Ask for a page and the thumbnails of its draws, and return its keys."""
        found = self.get("/api/images", count=PAGE, **query)
        thumbs = [one["thumb"] for item in found["items"] for one in item["pictures"] if one["role"] == "draw"]
        with ThreadPoolExecutor(6) as pool:
            assert all(answer.status_code == 200 for answer in pool.map(self.client.get, thumbs))
        return [item["key"] for item in found["items"]]

    def wait(self) -> None:
        """Wait until the index is whole."""
        while (index := self.get("/api/progress")["index"])["done"] < index["total"]:
            time.sleep(0.25)


@contextmanager
def serving(uri: str, cache: Path) -> Iterator[Server]:
    """A gallery of results that has answered nothing yet."""
    command = [sys.executable, "-m", "jobs", "gallery", uri]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("gallery")).split()[1]
        place, _, token = address.partition("/?token=")
        headers = {"Authorization": f"token {token}"}
        with httpx.Client(base_url=place, headers=headers, timeout=600) as client:
            yield Server(process, client)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@dataclass
class Times:
    """Seconds of each thing, and what else is told of one size of results."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    index_s: float = 0.0
    peak_mib: float = 0.0
    index_mib: float = 0.0

    def take(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        found = call()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        return found


def measure(uri: str, num_draws: int, repeats: int, folder: Path) -> Times:
    """Take all times of results of one size."""
    times, count = Times(), num_draws // DRAWS
    middle = f"album-{count // 2 // 1000:04d}/{count // 2:07d}"
    for number in range(repeats):
        cache = folder / f"cache-{num_draws}-{number}"
        with serving(uri, cache) as server:
            started = time.perf_counter()
            keys = times.take("first page", lambda: server.page(start=0))
            assert keys[0] == "album-0000/0000000"
            keys = times.take("jump to the middle", lambda: server.page(start=count // 2))
            assert keys[0] == middle
            times.take("order by PSNR, index not whole", lambda: server.page(sort="psnr"))
            if number == repeats - 1:
                server.wait()
                times.index_s = time.perf_counter() - started
                take_with_index(times, server, middle, repeats)
                times.peak_mib = peak_mib(server.process.pid)
                times.index_mib = sum(path.stat().st_size for path in cache.rglob("*.sqlite*")) / 2**20
        shutil.rmtree(cache)
    return times


def take_with_index(times: Times, server: Server, middle: str, repeats: int) -> None:
    for place in range(repeats):
        keys = times.take("search by key", lambda: server.page(search=middle))
        assert keys == [middle]
        times.take("order by PSNR, worst first", lambda: server.page(sort="psnr"))
        times.take("order by ab error, its tenth page", lambda: server.page(sort="ab_error", descending=1, start=240))
        times.take("filter SSIM > 0.9", partial(server.page, where="ssim:gt:0.9", start=place * PAGE))


def main() -> None:
    """Make the results, take the times, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", default="2000,200000", help="sizes of the results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="where the server's data lies (default: a temporary folder)")
    options = parser.parse_args()
    sizes = [int(size) for size in options.draws.split(",")]
    script = ROOT / "infra" / "local" / "s3.py"
    with tempfile.TemporaryDirectory(prefix="gallery-", dir=options.out) as folder:
        data = ["--data", f"{folder}/s3"]
        shown = subprocess.run(
            [sys.executable, str(script), "start", *data, "--port", "0", "--bucket", "gallery"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        try:
            for line in shown.splitlines():
                name, _, value = line.removeprefix("export ").partition("=")
                os.environ[name] = value.strip("'\"")
            images = photographs(PHOTOGRAPHS)
            found = {}
            for size in sizes:
                uri = f"s3://gallery/results-{size}"
                print(f"making {size:,} draws", file=sys.stderr)
                make_results(open_store(uri), "s3://gallery/archive", size, images)
                found[size] = measure(uri, size, options.repeats, Path(folder))
            print_table(found, options.repeats)
        finally:
            subprocess.run([sys.executable, str(script), "stop", *data], check=False, capture_output=True)


def print_table(found: dict[int, Times], repeats: int) -> None:
    """Print the table, with the machine."""
    print(describe())
    print(f"load {' '.join(f'{one:.1f}' for one in os.getloadavg())}; medians of {repeats}")
    print(f"| seconds | {' | '.join(f'{size:,} draws' for size in found)} |")
    print(f"| --- |{' ---: |' * len(found)}")
    for name in next(iter(found.values())).seconds:
        cells = [f"{statistics.median(times.seconds[name]):.2f}" for times in found.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| until the index is whole | {' | '.join(f'{times.index_s:.1f}' for times in found.values())} |")
    print(f"| memory of the server, peak, MiB | {' | '.join(f'{times.peak_mib:.0f}' for times in found.values())} |")
    print(f"| index on disk, MiB | {' | '.join(f'{times.index_mib:.1f}' for times in found.values())} |")


if __name__ == "__main__":
    main()
