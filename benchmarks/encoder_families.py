"""Which family colorizes best with the pretrained encoder, each trained on as many photographs? Prints a table.

    python benchmarks/encoder_families.py DATASET RUNS [FAMILY ...] [--steps 330] [--limit 120] [--threads 1]

Each family is trained with the same encoder, decoder, data and number of steps (`condgen train`, each in a run of its
own, which is gone on with when this is started again), then measured on the test split (`condgen evaluate`, 256 px).
Steps and not seconds, so that what else the machine does has no part in it; `minutes` is what they took. The last row
is the preset without an encoder that the demo trains.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

_COLUMNS = (
    "auc_raw",
    "auc_balanced",
    "energy_score",
    "total_variation_ratio",
    "colorfulness_ratio",
    "frechet_mobilenet_v2",
)
_SHARED = {
    "model.encoder": "mobilenet_v2",
    "model.decoder_widths": "[32,64,96,160,224,320]",
    "data.size_px": "128",
    "data.sample_px": "160",
    "data.crop_scale_min": "0.7",
    "data.aging_share": "0.3",
    "train.batch_size": "32",
    "train.log_every_steps": "20",
    "train.checkpoint_every_steps": "100",
    "train.ema_decay": "0.99",
    "train.precision": "bf16",
}
_AT_A_QUARTER = {"model.out_stride": "4", "train.learning_rate": "1.5e-3", "train.warmup_steps": "50"}
FAMILIES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "regression": ("regression-small", _SHARED | _AT_A_QUARTER),
    "gaussian": ("gaussian-small", _SHARED | _AT_A_QUARTER),
    "mixture": ("mixture-small", _SHARED | _AT_A_QUARTER),
    "color_classifier": ("color-classifier-small", _SHARED | _AT_A_QUARTER),
    "crf": ("crf-small", _SHARED | _AT_A_QUARTER),
    "cvae": ("cvae-small", _SHARED | _AT_A_QUARTER),
    "cgan": ("cgan-small", _SHARED | {"train.precision": "fp32"}),  # in bf16 a CPU without AMX is slower
    "diffusion": ("colorizer", _SHARED | _AT_A_QUARTER | {"train.learning_rate": "1e-3"}),
    "color_classifier, no encoder": ("color-classifier-small", {}),
}


def _run(*words: str) -> None:
    print("+ condgen", *words, flush=True)
    subprocess.run([sys.executable, "-m", "jobs", *words], check=True)


def _train(name: str, data: str, run: Path, steps: int, threads: int) -> None:
    preset, settings = FAMILIES[name]
    sets = {**settings, **({"train.steps": str(steps)} if settings else {})}
    changes = [word for field, value in sets.items() for word in ("--set", f"{field}={value}")]
    _run("train", "--preset", preset, "--data", data, "--out", str(run), "--threads", str(threads), *changes)


def _measure(data: str, run: Path, limit: int) -> dict[str, Any]:
    """Return the content of a run's evaluation.json, which is made where there is none."""
    out = run.with_name(f"{run.name}-judged")
    if not (out / "evaluation.json").exists():
        limits = ["--limit", str(limit)] if limit else []
        draws = ["--draws", "3", "--point"] if _is_stochastic(run) else ["--point"]
        _run("evaluate", "--model", str(run), "--data", data, "--split", "test", "--out", str(out), *limits, *draws)
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return found


def _is_stochastic(run: Path) -> bool:
    from condgen.families import find_family

    return find_family(json.loads((run / "config.json").read_text())["family"]).model_class.is_stochastic


def _rows(name: str, found: Mapping[str, Any], answers: Sequence[str], minutes: str = "–") -> list[str]:
    lines = []
    for answer in answers:
        cells = [found["metrics"].get(metric, {}).get(answer) for metric in _COLUMNS]
        if any(cells):
            shown = [f"{cell['value']:.2f}" if cell else "–" for cell in cells]
            lines.append(f"| {name} | {answer} | {' | '.join(shown)} | {minutes} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATASET")
    parser.add_argument("runs", metavar="RUNS", type=Path)
    parser.add_argument("families", metavar="FAMILY", nargs="*", help=f"of {', '.join(FAMILIES)} (default: all)")
    parser.add_argument("--steps", type=int, default=330, help="of 32 photographs each")
    parser.add_argument("--limit", type=int, default=120, help="photographs of the test split; 0 takes all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-train", action="store_true", help="leave measuring for another call")
    given = parser.parse_args(arguments)
    table: list[str] = []
    for name in given.families or FAMILIES:
        run = given.runs.absolute() / name.replace(", ", "-").replace(" ", "-")
        _train(name, given.data, run, given.steps, given.threads)
        if given.only_train:
            continue
        found = _measure(given.data, run, given.limit)
        table += _rows("–", found, ("grey", "mean_color")) if not table else []
        seconds = json.loads((run / "run.json").read_text())["seconds"]
        table += _rows(name, found, ("point", "draws", "best"), f"{seconds / 60:.1f}")
    if table:
        print("| family | answer |", " | ".join((*_COLUMNS, "minutes")), "|\n| --- | --- |", " ---: |" * 7, sep="")
        print("\n".join(table))


if __name__ == "__main__":
    main()
