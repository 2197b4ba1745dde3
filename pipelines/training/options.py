"""What is to be trained, and how. Importing this imports neither torch nor pyarrow; see `condgen.options`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from condgen.options import option
from condgen.presets import Preset
from pipelines.cluster.option_texts import read_seconds, read_workers
from pipelines.datasets.option_texts import read_members, read_size

__all__ = ["RunOptions", "TrainOptions"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is made; each field is an option of ``condgen train``.

    Attributes:
        workers: number of training processes (default 1), or the smallest and the largest: then their number follows
            the machines that are there, with a checkpoint before each change.
        gpus_per_worker: GPUs of each process; 0 trains on CPUs (default: 1 on a cluster that others run, and on this
            machine if it has one).
        wait_for_s: longest time to wait for machines that are still to come (seconds; default: 0 on this machine
            alone, 1800 on a cluster that others run).
        max_duration_s: time after which this call saves a checkpoint and ends, counted from its start (seconds); the
            same call again goes on. 0 sets no limit (default).
        member_names: the dataset's own names of members by the names that training knows, as in
            ``{"image": "photo"}``. Training takes the image that is called ``image``, else the only one of a sample.
        cache: folder in which each machine keeps the chunks that it has read (default: none).
        cache_bytes: largest size of that folder (bytes; default 50 GiB).
        init_from: model whose weights a new run begins with, as ``condgen colorize --model`` names it (default: none).
        init_partial: whether to take those weights that match by name and shape, and leave out the others.
        encoder_weights: weights of a pretrained encoder: ``auto`` (the installed package, or torchvision's cache; the
            default), ``torchvision`` (downloaded), ``random``, or a file or URI.
        threads: number of torch's threads in each worker; 0 is the worker's share of the CPUs (default 0).
        validation_gpus: GPUs of the task that validates checkpoints, besides those of the workers; 0 validates on the
            CPUs of the driver's machine (default 0).
        trackers: names of trackers that show the rows of metrics and of validation: ``tensorboard``, ``mlflow``,
            ``wandb`` (default: none).
    """

    workers: int | tuple[int, int] = option(
        1,
        "Training processes; of MIN:MAX as many as the machines that come and go allow.",
        metavar="N|MIN:MAX",
        read=read_workers,
        default="1",
    )
    gpus_per_worker: float | None = option(
        None,
        "GPUs of each process; 0 trains on CPUs (default: 1 on a cluster, and here if there is one).",
        metavar="G",
        min=0.0,
    )
    wait_for_s: float | None = option(
        None,
        "Wait so long for machines to come: 90s, 30m, 2h (default: 30m on a cluster, 0 here).",
        metavar="TIME",
        flags=("--wait-for",),
        read=partial(read_seconds, "--wait-for"),
    )
    max_duration_s: float = option(
        0.0,
        "End after that time with a checkpoint: 30m, 12h, 2d; run again to go on.",
        metavar="TIME",
        flags=("--max-duration",),
        read=partial(read_seconds, "--max-duration"),
    )
    member_names: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "A member's name in the dataset, such as image=target.",
            "metavar": "NAME=THEIRS",
            "flags": ("--member",),
            "read": read_members,
            "written": list[str],
        },
    )
    cache: str | None = option(None, "Keep chunks on each machine's disk, for the next epochs.", metavar="DIR")
    cache_bytes: int = option(
        50 << 30,
        "Most bytes in the cache: 500M, 50G, 2T.",
        metavar="SIZE",
        flags=("--cache-size",),
        read=partial(read_size, "--cache-size"),
        default="50G",
    )
    init_from: str | None = option(None, "Begin with the weights of a run or of a shipped model.", metavar="MODEL")
    init_partial: bool = option(
        False, "Of --init-from, take the weights that match by name and shape.", flags=("--init-partial",)
    )
    encoder_weights: str = option(
        "auto", "Of a pretrained encoder: auto, torchvision (download), random, or a file.", metavar="FILE"
    )
    threads: int = option(0, "Of torch in each process; 0 is its share of the CPUs.", metavar="N", min=0)
    validation_gpus: float = option(
        0.0, "GPUs for validation, besides the processes'; 0 validates on CPUs.", metavar="G", min=0.0
    )
    trackers: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Show the curves in tensorboard, mlflow or wandb; may be given again.",
            "metavar": "NAME",
            "flags": ("--track",),
            "read": tuple,
            "written": list[str],
        },
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """What is to be trained, on which data, where the run is kept, and how it is made.

    Attributes:
        preset: complete configuration of the model, its data and its training.
        data: dataset, a local path or a URI.
        out: folder of the run, a local path or a URI.
        data_b: dataset of the second domain, for ``data.task: domains`` alone (default: none).
        lease_ttl_s: time without a sign of life after which another start may take the run over (seconds; default 30).
    """

    preset: Preset
    data: str
    out: str
    data_b: str | None = None
    lease_ttl_s: float = 30.0

    @property
    def worker_range(self) -> tuple[int, int]:
        """Smallest and largest number of training processes."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)
