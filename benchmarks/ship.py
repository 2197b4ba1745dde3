"""Store a trained model as one that ships with condgen: half-precision weights, and only what using it needs.

    python benchmarks/ship.py runs/colorizer condgen/pretrained/colorizer [--set steps=8]

Prints the size and the digest. What half precision costs is for ``condgen evaluate`` and ``condgen compare`` to say:
evaluate the run and what this writes, and compare the two.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from condgen import checkpoint
from jobs.cli.config import parse_assignment
from pipelines.models.source import open_model

_KEPT = ("preset", "family", "size_px", "step", "versions")


def main() -> None:
    """Read the run, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run of condgen train, or one of its checkpoints")
    parser.add_argument("out", type=Path, help="the folder of the files")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="NAME=VALUE", help="of the model")
    parser.add_argument("--weights", choices=("fp16", "fp32"), default="fp16")
    arguments = parser.parse_args()
    loaded = open_model(arguments.run).load()
    model = loaded.model
    changes = dict(map(parse_assignment, arguments.changes))
    model.config = replace(model.config, **changes)
    extra = {name: loaded.extra[name] for name in _KEPT if name in loaded.extra}
    files = checkpoint.dump(model, extra, weights=arguments.weights)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (arguments.out / name).write_bytes(data)
    size = sum(map(len, files.values())) / 1e6
    print(f"{arguments.out}: {size:.1f} MB, digest {checkpoint.digest(files)}")


if __name__ == "__main__":
    main()
