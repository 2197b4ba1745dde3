"""Results by hand for tests of what shows them: real plans and draws files over an archive, without a model and Ray.

    drawn = DrawnResults(tmp_path / "archive", tmp_path / "results")
    drawn.plan()
    drawn.work()
    drawn.finish()

An image's draws are the image with a tint of its own for each. One that can't be decoded is an error, as in a job.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from condgen.errors import ImageError
from pipelines.batch.archive import Selection, plan_archive
from pipelines.datasets.chunk import Chunk, ChunkLimits, Sample, image_member, iter_chunks, read_chunk, sample_facts
from pipelines.datasets.opening import archive_store
from pipelines.images.decoding import decode
from pipelines.images.encoding import SUFFIXES, encode
from pipelines.results.account import make_account
from pipelines.results.commits import PendingChunks
from pipelines.results.files import Draw, Failure, FilteredImage, draws_name, encode_draws
from pipelines.results.plan import load_plans, write_plan
from pipelines.results.retrying import retry_chunks
from pipelines.results.settings import BatchSettings
from pipelines.storage.store import open_store

__all__ = ["DrawnResults"]

JOB = "job"


def tinted(rgb: Any, key: str, number: int) -> Any:
    """The image with colors that tell its key and the draw's number."""
    tint = np.random.default_rng([*key.encode()[:64], number]).integers(0, 256, 3)
    return (rgb // 2 + (tint // 2).astype(np.uint8)).astype(np.uint8)


@dataclass
class DrawnResults:
    """Results of a job that draws by tinting."""

    archive: str | Path
    results: str | Path
    settings: BatchSettings = field(default_factory=lambda: BatchSettings(draws=2, chunk_samples=3))
    leaves_out: Callable[[Sample], bool] = lambda sample: "left-out" in sample.key
    tint: str = ""

    def __post_init__(self) -> None:
        self.store = open_store(str(self.results))

    def plan(self, chunks: pa.Table | None = None, kind: str = "archive", **selection: Any) -> None:
        """Write the next plan: of what is new in the archive, or of these chunks."""
        before = [one.chunks for one in load_plans(self.store)]
        if chunks is None:
            limits = ChunkLimits(samples=self.settings.chunk_samples)
            columns = tuple(name for name, _ in self.settings.output.columns)
            chunks = plan_archive(str(self.archive), limits, Selection(facts=columns, **selection), before)
        write_plan(
            self.store,
            chunks,
            archive=str(self.archive),
            model={"uri": "model", "family": "tint", "digest": f"digest{self.tint}"},
            settings=self.settings.to_json(),
            generation=len(before),
            kind=kind,
        )

    def plan_retry(self) -> None:
        """Write a plan that does again what failed."""
        self.plan(retry_chunks(load_plans(self.store), self.account()), "retry")

    def account(self) -> Any:
        return make_account(self.store, load_plans(self.store), JOB, self.settings.draws)

    def work(self, most: int = 1 << 30) -> None:
        """Do so many chunks that are not done."""
        archive = archive_store(str(self.archive))
        for chunk in list(iter_chunks(PendingChunks.of(self.store, load_plans(self.store))))[:most]:
            samples = read_chunk(archive, chunk)
            self.store.write(draws_name(chunk.name), self._chunk(chunk, samples))

    def finish(self) -> None:
        """Write run.json, as a job does at its end."""
        account, plans = self.account(), [one.plan for one in load_plans(self.store)]
        assert account.is_closed
        counts = {name: getattr(account, name) for name in ("images", "with_draws", "errors", "filtered")}
        facts = {
            "plans": [{"name": plan.name, "kind": plan.kind, "digest": plan.digest} for plan in plans],
            "counts": counts,
            "archive": str(self.archive),
            "model": dict(plans[0].model),
            "settings": dict(plans[0].settings),
            "versions": {"condgen": "0"},
        }
        self.store.write("run.json", json.dumps(facts).encode())

    def make(self) -> "DrawnResults":
        """Plan, work and finish."""
        self.plan()
        self.work()
        self.finish()
        return self

    def _chunk(self, chunk: Chunk, samples: Sequence[Sample]) -> bytes:
        draws: list[Draw] = []
        failures: list[Failure] = []
        filtered: list[FilteredImage] = []
        for place, sample in zip(chunk.places, samples, strict=True):
            try:
                if sample.is_listed_later or self.leaves_out(sample):
                    filtered.append(FilteredImage(source=sample.source, key=sample.key, place=place))
                else:
                    draws += self._draws(sample)
            except ImageError as error:
                row = {"stage": error.stage, "error": error.error, "message": error.detail, "place": place}
                failures.append(Failure(source=sample.source, key=sample.key, **row))
        footer = {"job": JOB, "chunk": chunk.name, "versions": {"condgen": "0"}, "note": f"by hand{self.tint}"}
        columns = self.settings.output.columns
        return encode_draws(draws, failures, footer, samples=len(samples), filtered=filtered, columns=columns)

    def _draws(self, sample: Sample) -> list[Draw]:
        import hashlib

        data = image_member(sample, self.settings.member)
        rgb, suffix = decode(data), SUFFIXES[self.settings.output.output_format]
        draw = Draw(
            source=sample.source,
            key=sample.key,
            draw=0,
            seed=0,
            image=b"",
            path="",
            width=rgb.shape[1],
            height=rgb.shape[0],
            source_sha256=hashlib.sha256(data).hexdigest(),
            facts=sample_facts(sample),
        )
        images = [tinted(rgb, sample.key + self.tint, k) for k in range(self.settings.draws)]
        return [
            replace(
                draw,
                draw=k,
                path=f"{sample.key}.draw{k}.{suffix}",
                image=encode(image, self.settings.output.output_format, self.settings.output.quality),
            )
            for k, image in enumerate(images)
        ]
