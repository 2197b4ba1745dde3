"""`condgen shard` of pairs, halves, tables and two domains, by its command line; the webdataset library reads them."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from samples import noise

from jobs.cli import app as cli
from pipelines.datasets.opening import open_dataset
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode


def write(folder: Path, count: int, width: int = 48) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encode(noise(number, width, 32), "png"))
    return folder


def samples(dataset: Path) -> dict[str, dict[str, bytes]]:
    tars = sorted(str(path) for path in dataset.glob("*.tar"))
    found = webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)
    return {sample["__key__"]: {k: v for k, v in sample.items() if not k.startswith("__")} for sample in found}


def test_two_folders_make_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, targets = write(tmp_path / "in", 5), write(tmp_path / "out", 6, width=60)
    dest = tmp_path / "dataset"
    assert cli._run(["shard", str(inputs), str(dest), "--targets", str(targets)]) == 0
    assert "5 pairs" in capsys.readouterr().out
    manifest = open_dataset(str(dest)).manifest
    assert (manifest.kind, manifest.members) == ("paired", {"input.png": 5, "json": 5, "target.png": 5})
    assert manifest.statistics["sizes"]["width"]["max"] == 60
    found = samples(dest)
    assert found["3"]["input.png"] == (inputs / "3.png").read_bytes()
    assert found["3"]["target.png"] == (targets / "3.png").read_bytes()
    facts = json.loads(found["3"]["json"])
    assert (facts["width"], facts["input"]["width"], facts["source"]) == (60, 48, "3.png")
    (row,) = pq.read_table(dest / "rejected.parquet").to_pylist()
    assert (row["source"], row["error"]) == (f"{targets}/5.png", "NoPartner")


def test_a_damaged_half_of_a_pair_rejects_both(tmp_path: Path) -> None:
    inputs, targets = write(tmp_path / "in", 3), write(tmp_path / "out", 3)
    (targets / "1.png").write_bytes(b"")
    assert cli._run(["shard", str(inputs), str(tmp_path / "d"), "--targets", str(targets)]) == 0
    (row,) = pq.read_table(tmp_path / "d" / "rejected.parquet").to_pylist()
    assert (row["source"], row["message"]) == ("1.png", "target: the file has no bytes")
    assert sorted(samples(tmp_path / "d")) == ["0", "2"]


def test_images_side_by_side_make_pairs(tmp_path: Path) -> None:
    source = write(tmp_path / "maps", 4, width=80)
    dest = tmp_path / "dataset"
    assert cli._run(["shard", str(source), str(dest), "--side-by-side", "right", "--resize", "16"]) == 0
    found = samples(dest)["2"]
    whole = noise(2, 80, 32)
    assert decode(found["input.png"]).shape == decode(found["target.png"]).shape == (16, 20, 3)
    plain = tmp_path / "plain"
    assert cli._run(["shard", str(source), str(plain), "--side-by-side", "right"]) == 0
    found = samples(plain)["2"]
    assert np.array_equal(decode(found["input.png"]), whole[:, 40:])
    assert np.array_equal(decode(found["target.png"]), whole[:, :40])


def test_a_listing_gives_captions_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "images", 3)
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["where", "said", "label"])
        writer.writerow(["images/0.png", 'a, "quoted"\nline', 7])
        writer.writerows([["images/2.png", "é", 8], ["images/9.png", "", 9]])
    dest = tmp_path / "dataset"
    arguments = ["shard", str(tmp_path / "list.csv"), str(dest), "--roles", "image=where,caption=said"]
    assert cli._run(arguments) == 0
    assert "images/9.png: Missing" in capsys.readouterr().out
    found = samples(dest)
    facts = json.loads(found["images/0"]["json"])
    assert (facts["caption"], facts["label"], facts["source"]) == ('a, "quoted"\nline', 7, "images/0.png")
    assert found["images/2"]["png"] == (tmp_path / "images" / "2.png").read_bytes()


def test_two_domains_are_two_datasets_that_are_opened_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    horses, zebras = write(tmp_path / "horses", 5), write(tmp_path / "zebras", 3)
    dest = str(tmp_path / "dataset")
    arguments = ["shard", str(horses), dest, "--unpaired", str(zebras), "--split", "train=0.5,test=0.5"]
    assert cli._run(arguments) == 0
    assert [open_dataset(f"{dest}/{name}").manifest.samples for name in "ab"] == [5, 3]
    capsys.readouterr()
    assert cli._run(["inspect", dest]) == 0
    assert capsys.readouterr().out.count("single images") == 2
    assert cli._run(["validate", dest]) == 0
    assert "8 samples" in capsys.readouterr().out
    assert cli._run(["train", "--preset", "regression-small", "--data", dest, "--out", str(tmp_path / "r")]) == 2
    assert "two domains" in capsys.readouterr().err
    assert cli._run(arguments) == 0
    assert capsys.readouterr().out.count("nothing was done") == 2


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--targets", "x", "--side-by-side", "left"], "either"),
        (["--roles", "image=x"], "a table"),
        (["--roles", "image="], "ROLE=COLUMN"),
        (["--side-by-side", "middle"], "left"),
        (["--unpaired", "x", "--targets", "y"], "neither"),
        (["--dedup", "nearly"], "near"),
        (["--format", "gif"], "webp"),
        (["--resize", "8", "--resize-mode", "wide"], "square"),
    ],
)
def test_options_that_can_not_be_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    write(tmp_path / "images", 1)
    assert cli._run(["shard", str(tmp_path / "images"), str(tmp_path / "dataset"), *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1
    assert not (tmp_path / "dataset").exists()
