"""Results of the batch job for tests of what reads them: made in this process, as workers would, without Ray."""

from pathlib import Path

import torch
from samples import smooth

from condgen import checkpoint
from condgen.families import build
from pipelines.batch.job import BatchJob, BatchRun, list_job
from pipelines.batch.probe import inspect_model
from pipelines.batch.report import BatchReport, Pace
from pipelines.datasets.chunk import iter_chunks
from pipelines.results.settings import BatchSettings

SIZE_PX = 32


def write_model(folder: Path, family: str = "color_classifier", size_px: int = SIZE_PX) -> str:
    """A model with its first weights: what a classifier draws is noise, and the same noise every time."""
    torch.manual_seed(0)
    model = build(family, {"width": 8, "multipliers": [1, 2], "blocks_per_level": 1, "out_stride": 4})
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in checkpoint.dump(model, {"size_px": size_px}).items():
        (folder / name).write_bytes(data)
    return str(folder)


class NoisyTint(torch.nn.Module):
    """A user's model from image to image, as `small_results:NoisyTint`: a convolution and a tint of noise."""

    size_px = SIZE_PX
    noise_shape = (3, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return (self.mix(x) + 0.3 * noise).clamp(-1, 1)


class Negative(torch.nn.Module):
    """A user's model that inverts red and green, as `samples.paired_dataset` does from input to target."""

    size_px = SIZE_PX

    def __init__(self) -> None:
        super().__init__()
        self.sign = torch.nn.Parameter(torch.tensor([-1.0, -1.0, 1.0]).reshape(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.sign


def write_picture(path: Path, seed: int, size: tuple[int, int] = (40, 28)) -> None:
    """A smooth picture of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth(seed, size, coarse=(5, 4)).save(path)


def job_in(root: Path, settings: BatchSettings, archive: str = "archive", results: str = "results") -> BatchJob:
    """The job whose archive, results and model are in one folder."""
    places = {"archive": str(root / archive), "results": str(root / results), "model": write_model(root / "model")}
    return BatchJob(settings=settings, **places)


def run_job(job: BatchJob, *, stop_after: int | None = None) -> BatchReport | None:
    """What `pipelines.batch.job.run_batch` does, in this process; None where it is stopped after some chunks."""
    listed = list_job(job)
    run = BatchRun(listed, inspect_model(listed.source, listed.settings))
    run.begin()
    engine = run.worker_spec().make_engine()

    def work() -> bool:
        for done, chunk in enumerate(iter_chunks(run.pending())):
            if done == stop_after:
                return False
            engine.run(chunk)
        return True

    if not work():
        return None
    account = run.account()
    if run.plan_retry(account) is not None:
        work()
        account = run.account()
    return run.finish(account, Pace(total=account.images, images=account.images))
