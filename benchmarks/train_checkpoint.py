"""How long training stands still for a checkpoint, against an upload that it waits for.

    python benchmarks/train_checkpoint.py [--preset pix2pix-facades] [--rate-mb 10] [--rounds 3]

A real S3 server on loopback (infra/local/s3.py) is behind a proxy that passes so many bytes a second in all: storage as
far as an upload sees it. Each round writes a checkpoint while training waits, then one as `condgen train` does, with
twice that time until the next; its stand-still is `stalled_s` of metrics.jsonl. Batches are noise.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from machine import describe
from read import s3_server

from condgen.base import Batch, Condition
from condgen.families import FAMILIES
from condgen.presets import Preset, find_preset
from pipelines.storage.store import open_store
from pipelines.streaming.epoch_order import StreamPosition
from pipelines.streaming.stream import StreamBatch
from pipelines.training.lease import Holder, take_lease
from pipelines.training.loop import Loop
from pipelines.training.run_folder import RunFolder
from pipelines.training.saving import CheckpointWriter, Snapshot

_PIECE = 1 << 16


class SlowProxy:
    """A TCP proxy on loopback: all that goes to a server shares a rate; answers are passed on as they come."""

    def __init__(self, port: int, bytes_per_s: float) -> None:
        self.port = 0
        self._server_port, self._bytes_per_s, self._free_at = port, bytes_per_s, 0.0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, name="proxy", daemon=True).start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", self._server_port)
        await asyncio.gather(self._pass_on(reader, to_there, slow=True), self._pass_on(there, writer, slow=False))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE):
                if slow:
                    self._free_at = max(time.monotonic(), self._free_at) + len(piece) / self._bytes_per_s
                    await asyncio.sleep(self._free_at - time.monotonic())
                writer.write(piece)
                await writer.drain()
        writer.close()


@contextmanager
def slow_bucket(bytes_per_s: float) -> Iterator[str]:
    """A bucket of a real server behind the proxy, for the time of the block; yields its URI."""
    import s3fs

    with tempfile.TemporaryDirectory() as work, s3_server(Path(work) / "s3") as (bucket, environment):
        endpoint = environment["AWS_ENDPOINT_URL"]
        proxy = SlowProxy(urlsplit(endpoint).port or 80, bytes_per_s)
        os.environ.update(environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"})
        key, secret = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        s3fs.S3FileSystem(key=key, secret=secret, endpoint_url=endpoint).mkdir(bucket)
        yield bucket


def make_loop(preset: Preset, *, batch_size: int) -> Loop:
    """Return the loop of a preset, whose batches are the same noise each time."""
    torch.manual_seed(0)
    model, size = FAMILIES[preset.family].model_class(preset.model), preset.data.size_px
    x, y = (
        torch.rand(batch_size, channels, size, size) * 2 - 1
        for channels in (preset.model.condition_channels, preset.model.target_channels)
    )
    batch = Batch(condition=Condition(image=x), target=y, weight=torch.ones(batch_size))
    return Loop(model, preset.train, to_batch=lambda _item, _device: batch)


def items(batch_size: int) -> Iterator[StreamBatch]:
    """Yield batches of a stream, of which only the count is looked at."""
    nothing = StreamBatch(
        rgb=np.zeros((batch_size, 1, 1, 3), np.uint8),
        labels=np.zeros((batch_size, 0), np.int64),
        weight=np.ones(batch_size, np.float32),
        faults=0,
        after=StreamPosition(),
    )
    while True:
        yield nothing


@contextmanager
def run_folder(uri: str) -> Iterator[RunFolder]:
    """A new run's folder, with the right to write there."""
    store = open_store(uri)
    lease = take_lease(store)
    if isinstance(lease, Holder):
        raise SystemExit(f"{uri} belongs to {lease}")
    with lease:
        yield RunFolder(store, lease.fence)


def train(loop: Loop, writer: CheckpointWriter | None, seconds: float) -> None:
    """Train for some seconds, with a checkpoint after the first step if there is a writer."""
    until = time.monotonic() + seconds
    writers = iter([writer] if writer else [])

    def save(loop: Loop) -> None:
        for one in writers:
            one.save(lambda: Snapshot.of(loop, {}, [], {}))

    while time.monotonic() < until:
        done = loop.state.step
        loop.config = replace(loop.config, steps=done + 2, checkpoint_every_steps=1)
        loop.run(items(loop.config.batch_size), on_row=lambda _: None, on_checkpoint=save)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pix2pix-facades")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rate-mb", type=float, default=10.0, help="of the proxy (MB/s)")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    preset = find_preset(given.preset)
    preset = replace(preset, train=replace(preset.train, batch_size=given.batch_size))
    loop = make_loop(preset, batch_size=given.batch_size)
    waited, stalled, size = [], [], 0
    train(loop, None, 1.0)  # only then is there all that a checkpoint holds
    with (
        slow_bucket(given.rate_mb * 1e6) as bucket,
        run_folder(f"{bucket}/waits") as waits,
        run_folder(f"{bucket}/goes-on") as goes_on,
    ):
        writer = CheckpointWriter(goes_on)
        for _ in range(given.rounds):
            began = time.monotonic()
            files = Snapshot.of(loop, {}, [], {}).files()
            waits.save_checkpoint(loop.state.step, files)
            waited.append(time.monotonic() - began)
            size = sum(map(len, files.values()))
            del files
            train(loop, writer, 2 * waited[-1])
            writer.wait()  # an upload that training did not hide counts
            stalled.append(writer.take_stalled_s())
    share = statistics.median(stalled) / statistics.median(waited)
    print("| checkpoint | storage | upload that training waits for | stand-still of condgen's | share |")
    print("| --- | ---: | ---: | ---: | ---: |")
    sync, ours = (f"{statistics.median(v):,.2f} s ({min(v):,.2f} to {max(v):,.2f})" for v in (waited, stalled))
    print(
        f"| {given.preset}, {size / 1e6:,.0f} MB | {given.rate_mb:g} MB/s | {sync} | {ours} | {share:.1%} |\n"
        f"\n{describe()}; load {os.getloadavg()[0]:.0f}"
    )


if __name__ == "__main__":
    main()
