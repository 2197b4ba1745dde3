"""`condgen export`: a trained model as a `torch.export` program, in a file of its own."""

from __future__ import annotations

from dataclasses import replace

from condgen.base import SampleOptions
from condgen.errors import ConfigError
from pipelines.models.export import export_program
from pipelines.models.source import open_model
from pipelines.storage.store import write_file

__all__ = ["run"]


def run(model: str, out: str, *, point: bool = False, steps: int | None = None) -> list[str]:
    """Export a model; returns what is told of it, line by line.

    Args:
        model: model, as `condgen colorize --model` names it.
        out: file that is written, a path or URI that ends in `.pt2`.
        point: whether the program gives the point prediction (default: draws, where the model has noise).
        steps: number of steps of an iterative sampler (default: the model's own).

    Raises:
        ConfigError: `out` is not a `.pt2` file.
        UnsupportedError: the model's sampling can't be exported.
        JobError: the program's outputs differ from the model's; nothing is written.
        CheckpointError, StorageError: the model can't be read, or the file not be written.
    """
    if not out.endswith(".pt2"):
        raise ConfigError("OUT", out, "a file whose name ends in .pt2")
    loaded = open_model(model).load()
    is_point = point or not loaded.model.is_stochastic
    options = SampleOptions(mode="point" if is_point else "draw")
    exported = export_program(loaded, options if steps is None else replace(options, steps=steps))
    write_file(out, exported.data)
    size, task = exported.facts["size_px"], exported.facts["task"]
    noise = "" if is_point else f", and noise [B, {exported.facts['noise_shape'][0]}]"
    shape = f"L / 50 - 1, [B, 1, {size}, {size}]" if task == "color" else f"images [B, 3, {size}, {size}]"
    return [
        f"program       {out}, {len(exported.data) / 2**20:.1f} MiB, {'point' if is_point else 'draws'}",
        f"takes         {shape}{noise}",
        f"checked       its outputs differ from the model's by {exported.difference:.1e} at most",
    ]
