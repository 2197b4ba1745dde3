"""What one would write in place of the batch job: K colorizations of each image of some shards, into Parquet.

    python benchmarks/batch_peers.py ray_data|dataloader --shards DIR --model DIR --results DIR

Both decode, condition, colour and encode with this project's functions, run its model in batches of 16, and start from
the same tars. Printed is a JSON object; `steady` counts from the first batch done to the last one written.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.cluster.starting import usable_cpus
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode

BATCH = 16
QUALITY = 95
SIZE_PX = 64


def condition(data: bytes) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """A JPEG as its picture `[H, W, 3]`, the model's input `[1, S, S]`, and where in it the picture lies."""
    from condgen.color.colorize import fit_square

    rgb = decode(data)
    fitted = fit_square(rgb, SIZE_PX)
    return rgb, fitted.l_n, tuple(fitted.region)


class Colorizer:
    """The model, and what makes pictures of its outputs."""

    def __init__(self, model: str, draws: int, threads: int) -> None:
        import torch

        from pipelines.models.source import open_model

        torch.set_num_threads(threads)
        self.model = open_model(model).load().model.eval()
        self.draws = draws

    def sample(self, keys: list[str], l_n: np.ndarray) -> Any:
        """ab of each draw, `[B, K, 2, S, S]`."""
        import torch

        from condgen.base import Condition, SampleOptions
        from condgen.noise import NoiseSource, SampleId

        noise = NoiseSource(0, [SampleId("shards", key) for key in keys], range(self.draws))
        with torch.inference_mode():
            return self.model.sample(Condition(image=torch.from_numpy(np.asarray(l_n))), noise, SampleOptions())

    def encode(self, rgb: np.ndarray, ab: Any, region: tuple[int, ...]) -> list[bytes]:
        """The K pictures of one image as JPEGs."""
        from condgen.color.colorize import recolor
        from condgen.color.guide import make_guide

        rgb, place = np.asarray(rgb), tuple(map(int, region))
        guide = make_guide(rgb, place, getattr(self.model.config, "out_stride", 1))
        return [encode(one, "jpeg", quality=QUALITY) for one in recolor(rgb, ab, place, guide=guide)]


# ---------------------------------------------------------------------------------------- Ray Data, as it is documented


class Predictor:
    """The stateful operator of the recipe."""

    def __init__(self, model: str, draws: int, log: str) -> None:
        self.colorizer = Colorizer(model, draws, 1)
        self.log = log

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        keys = [str(key) for key in batch["key"]]
        ab = self.colorizer.sample(keys, batch["l_n"])
        rows = zip(batch["rgb"], ab, batch["region"], strict=True)
        images = [jpeg for rgb, its_ab, region in rows for jpeg in self.colorizer.encode(rgb, its_ab, region)]
        draws = self.colorizer.draws
        with Path(self.log).open("a") as log:
            log.write(f"{time.time()} {len(keys)}\n")
        return {
            "key": np.repeat(keys, draws),
            "draw": np.tile(np.arange(draws), len(keys)),
            "image": np.array(images, dtype=object),
        }


def decode_batch(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """The stateless operator of the recipe."""
    rgbs, l_ns, regions = zip(*map(condition, batch["jpg"]), strict=True)
    return {"key": batch["__key__"], "rgb": np.stack(rgbs), "l_n": np.stack(l_ns), "region": np.array(regions)}


def ray_data(tars: list[str], options: argparse.Namespace) -> tuple[str, list[tuple[float, int]]]:
    """read_webdataset -> map_batches -> map_batches(actors) -> write_parquet.

    The actors together take one CPU less than there are: with all of them, nothing is left to read with, and the
    recipe hangs.
    """
    import ray

    cores = usable_cpus()
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actors, each = (1, max(1, cores - 1)) if options.actors == 1 else (options.actors, (cores - 1) / options.actors)
    log = Path(options.results) / "log.txt"
    (
        ray.data.read_webdataset(tars, decoder=None)
        .map_batches(decode_batch, batch_size=64)
        .map_batches(
            Predictor,
            fn_constructor_args=(options.model, options.draws, str(log)),
            batch_size=BATCH,
            num_cpus=each,
            compute=ray.data.ActorPoolStrategy(size=actors),
        )
        .write_parquet(f"{options.results}/draws")
    )
    lines = [line.split() for line in log.read_text().splitlines()]
    name = f"Ray Data's recipe, {actors} actor{'s' if actors > 1 else ''} of {each:g} CPU"
    return name, sorted((float(when), int(count)) for when, count in lines)


# ------------------------------------------------------------------------------------------------- PyTorch's DataLoader


def samples(tars: list[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[int, ...]]]:
    """The images of some tars, decoded."""
    for tar in tars:
        with tarfile.open(tar) as opened:
            for member in opened:
                key, _, extension = member.name.rpartition(".")
                body = opened.extractfile(member)
                if extension == "jpg" and body is not None:
                    yield (key, *condition(body.read()))


def dataloader(tars: list[str], options: argparse.Namespace) -> tuple[str, list[tuple[float, int]]]:
    """A worker a core decodes; the loop runs the model on all cores, and as many threads encode."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    class Shards(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            info = get_worker_info()
            return samples(tars[info.id :: info.num_workers])

    cores = usable_cpus()
    colorizer = Colorizer(options.model, options.draws, cores)
    log: list[tuple[float, int]] = []
    schema = pa.schema([("key", pa.string()), ("draw", pa.int32()), ("image", pa.binary())])
    loader = DataLoader(
        Shards(), batch_size=BATCH, num_workers=cores, collate_fn=lambda rows: list(zip(*rows, strict=True))
    )
    with (
        ThreadPoolExecutor(cores) as pool,
        pq.ParquetWriter(f"{options.results}/draws.parquet", schema, compression="zstd") as writer,
        torch.inference_mode(),
    ):
        for keys, rgbs, l_ns, regions in loader:
            ab = colorizer.sample(list(keys), np.stack(l_ns))
            images = [jpeg for its in pool.map(colorizer.encode, rgbs, ab, regions) for jpeg in its]
            draws = [draw for _ in keys for draw in range(options.draws)]
            repeated = [key for key in keys for _ in range(options.draws)]
            writer.write_table(pa.table([repeated, draws, images], schema=schema))
            log.append((time.time(), len(keys)))
    return f"PyTorch DataLoader, {cores} workers", log


PEERS = {"ray_data": ray_data, "dataloader": dataloader}


def main() -> None:
    """Run one peer, and print its rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    for name in ("shards", "model", "results"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--images", type=int, default=3000, help="the first tars that have so many")
    parser.add_argument("--actors", type=int, default=1)
    options = parser.parse_args()
    Path(options.results).mkdir(parents=True, exist_ok=True)
    start = time.time()
    name, log = PEERS[options.peer](enough(options.shards, options.images), options)
    written = max(path.stat().st_mtime for path in Path(options.results).rglob("*.parquet"))
    images = sum(count for _, count in log)
    steady = (images - log[0][1]) / (max(written, log[-1][0]) - log[0][0])
    print(json.dumps({"name": name, "images": images, "seconds": time.time() - start, "steady": steady}))


def enough(shards: str, images: int) -> list[str]:
    """The first tars of a dataset that have so many images."""
    manifest = json.loads((Path(shards) / "manifest.json").read_text())
    found: list[str] = []
    for shard in manifest["shards"]:
        if images <= 0:
            break
        found.append(str(Path(shards) / shard["name"]))
        images -= shard["samples"]
    return found


if __name__ == "__main__":
    main()
