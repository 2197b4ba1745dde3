"""Folders of training runs as `condgen train` leaves them, made by hand: no training, no Ray."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samples import smooth

from pipelines.images.sheet import Cell, draw_sheet
from pipelines.training.lease import Holder
from pipelines.training.process_identity import ProcessIdentity
from pipelines.training.run_folder import MetricRow, rows_to_bytes
from pipelines.training.validation_rows import ValidationRow, validation_to_bytes

CONFIG = {
    "preset": "pix2pix-facades",
    "family": "pix2pix",
    "data_uri": "s3://bucket/facades",
    "format": 1,
    "data": {"size_px": 128, "task": "pairs"},
    "model": {"width": 48, "multipliers": [1, 2, 4]},
    "train": {"steps": 1000, "learning_rate": 0.0002, "checkpoint_every_steps": 100},
    "versions": {"condgen": "0.3.0", "torch": "2.15.0", "revision": "1bb9a9436ebe4cd909abafdf3a9f42dd84965056"},
    "workers": 2,
}
STATUS = {
    "state": "running",
    "reason": "",
    "step": 600,
    "steps": 1000,
    "epoch": 3,
    "images_per_s": 81.5,
    "workers": 2,
    "workers_wanted": 4,
    "checkpoint": "step-00000600-e0002",
    "updated": "2026-11-29T17:12:31+00:00",
    "lease": {"epoch": 2, "host": "head-0", "pid": 72, "since": "2026-11-29T16:00:00+00:00"},
}


def metric_row(step: int, *, losses: dict[str, float] | None = None, workers: int = 2, **values: Any) -> MetricRow:
    """A row of metrics, with losses that fall over three powers of ten unless they are given."""
    losses = losses or {"l1": 1000.0 / step, "g_adversarial": 2.0 + step / 1000}
    plain: dict[str, Any] = {
        "epoch": step // 200,
        "images": step * 16,
        "seconds": step / 5,
        "loss": sum(losses.values()),
        "lr": 0.0002 * (1 - step / 1001),
        "images_per_s": 80.0 + step % 7,
        "undecodable": 0,
        "stalled_s": 0.5 * (step % 100 == 0),
        "waited": [0.01 * (rank + 1) for rank in range(workers)],
    }
    return MetricRow(step=step, losses=losses, **plain | values)


def validation_row(step: int) -> ValidationRow:
    """A row of validation, whose least loss is at step 400."""
    loss = 3.0 + abs(step - 400) / 100
    losses = {"l1": loss - 1, "g_adversarial": 1.0}
    metrics = {"rgb_error": 30.0 - step / 100}
    return ValidationRow(step=step, loss=loss, losses=losses, metrics=metrics, images=64, split="val", seconds=2.0)


def make_run(
    folder: Path,
    *,
    rows: Sequence[MetricRow] | None = None,
    status: dict[str, Any] | None = None,
    sheets: Sequence[int] = (200, 400, 600),
    config: dict[str, Any] | None = None,
) -> Path:
    """A run of 600 steps of 1,000 that was interrupted once, at step 300."""
    write = _writer(folder)
    write("config.json", json.dumps(config or CONFIG).encode())
    rows = [metric_row(step) for step in range(10, 601, 10)] if rows is None else rows
    write("metrics.jsonl", rows_to_bytes(rows))
    write("validation.jsonl", validation_to_bytes({step: validation_row(step) for step in range(100, 601, 100)}))
    write("status.json", json.dumps({**STATUS, **(status or {})}).encode())
    for step in (400, 600):
        write(f"checkpoints/step-{step:08d}-e0002/model.safetensors", b"0" * 2_000_000)
        write(f"checkpoints/step-{step:08d}-e0002/complete.json", b"{}")
    for epoch, kept in ((1, ()), (2, ("step-00000300-e0001",))):
        process = ProcessIdentity(host="head-0", machine="", pid=70 + epoch, started="")
        holder = Holder(epoch=epoch, process=process, since="2026-11-29T16:00:00+00:00", kept=kept)
        write(f"lease/{epoch:08d}.json", holder.to_bytes())
    for step in sheets:
        cell = Cell([smooth(step + place, (64, 64), coarse=(5, 4)) for place in range(3)])
        png = draw_sheet([cell, cell], columns=1, cell_px=66, titles=["input", "original", "draw 1"])
        write(f"sheets/step-{step:08d}.png", png)
    return folder


def make_old_run(folder: Path) -> Path:
    """A finished run as version 0.1 left it: no lease, status, validation or sheets, and fewer fields a row."""
    write = _writer(folder)
    config = {name: value for name, value in CONFIG.items() if name != "versions"}
    write("config.json", json.dumps(config | {"versions": {"condgen": "0.1.0"}}).encode())
    rows = [asdict(metric_row(step)) for step in range(50, 1001, 50)]
    for row in rows:
        del row["stalled_s"], row["waited"]
    write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    write("checkpoints/step-00001000/complete.json", b"{}")
    end = {"step": 1000, "reason": "steps", "seconds": 200.0, "images": 16000, "loss": 4.0, "losses": {}}
    write("run.json", json.dumps(end).encode())
    return folder


def _writer(folder: Path) -> Callable[[str, bytes], None]:
    def write(name: str, data: bytes) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return write
