"""Make `tests/old_data/0.1`: small ones of everything that condgen leaves on disk, by the command line alone.

    python tests/old_data/make.py DEST

It was run with the code of version 0.1, before modules moved; `tests/integration/test_old_data.py` reads what it made.
"""

import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
TRAIN = (
    "--preset regression-small --set train.steps=6 --set train.checkpoint_every_steps=4 --set train.batch_size=2 "
    "--set model.width=8 --set model.multipliers=[1,2] --set model.blocks_per_level=1 --set data.size_px=16 "
    "--set train.precision=fp32 --threads 1"
)
TRANSLATE = "--model inverse:Inverse --draws 1 --format png --batch-size 4 --chunk-samples 4"


def condgen(*arguments: str | Path) -> None:
    """Run a command in the folder of the user's model, `inverse.py`."""
    command = [sys.executable, "-m", "jobs", *map(str, arguments)]
    subprocess.run(command, cwd=HERE, check=True, env={"PYTHONPATH": str(HERE.parents[1]), "PATH": "/usr/bin:/bin"})


def write_images(folder: Path) -> None:
    """Twelve PNGs of 40 x 30, cut out of scikit-image's photographs."""
    folder.mkdir(parents=True)
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    for name in ("astronaut", "chelsea", "coffee"):
        with Image.open(Path(spec.submodule_search_locations[0]) / "data" / f"{name}.png") as image:
            small = image.convert("RGB").resize((160, 120))
            for place in range(4):
                left, top = 80 * (place % 2), 60 * (place // 2)
                small.crop((left, top, left + 40, top + 30)).save(folder / f"{name}-{place}.png", optimize=True)


def write_foreign(folder: Path, images: Path) -> None:
    """A WebDataset shard of another program: PNGs and captions."""
    folder.mkdir()
    with tarfile.open(folder / "part-0.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for image in sorted(images.iterdir())[:4]:
            caption = images.parent / f"{image.stem}.txt"
            caption.write_text(f"a cut of {image.stem}")
            for path in (image, caption):
                tar.add(path, arcname=path.name, filter=_plain)
            caption.unlink()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode = 0, 0, 0, "", "", 0o644
    return info


def main(dest: Path) -> None:
    images, dataset, run = dest / "images", dest / "dataset", dest / "run"
    write_images(images)
    condgen("shard", images, dataset, "--samples-per-shard", "5", "--split", "train=0.8,val=0.2")
    write_foreign(dest / "foreign", images)
    condgen("index", dest / "foreign")
    model = [
        "--model",
        "inverse:Inverse",
        "--draws",
        "1",
        "--format",
        "png",
        "--batch-size",
        "4",
        "--chunk-samples",
        "4",
    ]
    condgen("translate", images, dest / "results", *model)
    condgen("train", "--data", dataset, "--out", run, *TRAIN.split())
    # As a run that was cut before its end: the checkpoint of step 4 is its last.
    expected = dest / "finished"
    expected.mkdir()
    for name in ("model.safetensors", "model.json", "metrics.jsonl"):
        shutil.move(run / name, expected / name)
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    (run / "run.json").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
