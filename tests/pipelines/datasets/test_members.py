"""Which member of a sample is its image, for jobs and for validation alike."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from condgen.errors import ImageError
from jobs.datasets.validate import run as validate
from pipelines.datasets.chunk import Sample, image_member, image_members


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, kind)
    return out.getvalue()


JPEG, PNG = encoded("JPEG"), encoded("PNG")
NPY = b"\x93NUMPY\x01\x00" + bytes(40)


@pytest.mark.parametrize(
    ("members", "image"),
    [
        ({"jpg": JPEG, "json": b"{}"}, "jpg"),
        ({"JPG": JPEG, "npy": NPY, "xml": b"<a/>", "md5": b"0", "__url__": b"u", "text": b"t"}, "JPG"),
        ({"seg.npy": NPY, "image.png": PNG, "cls": b"1"}, "image.png"),
        ({"data": JPEG, "text": b"a cat", "height": b"4"}, "data"),  # no extension tells, its bytes do
        ({"bin": b"neither"}, "bin"),  # one member alone: its decoder says what is wrong
        ({"image": PNG}, "image"),
    ],
)
def test_the_one_member_that_is_an_image_is_taken(members: dict[str, bytes], image: str) -> None:
    assert image_members(members) == [image]
    assert image_member(Sample(source="x.tar", key="a", members=members)) == members[image]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"front.jpg": JPEG, "back.jpg": JPEG}, "several images among: back.jpg, front.jpg: name one with --member"),
        ({"npy": NPY, "json": b"{}"}, "no image among: json, npy"),
        ({"json": b"{}"}, "no image among: json"),
        ({}, "no image among: nothing"),
    ],
)
def test_of_several_or_none_the_members_are_told(members: dict[str, bytes], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image_member(Sample(source="x.tar", key="a", members=members))


def test_a_member_can_be_named() -> None:
    sample = Sample(source="x.tar", key="a", members={"front.jpg": JPEG, "back.png": PNG})
    assert image_member(sample, "front.jpg") == JPEG
    assert image_member(sample, "back") == PNG
    with pytest.raises(ImageError, match=r"no single member 'side' among: back\.png, front\.jpg"):
        image_member(sample, "side")


def test_validation_finds_what_a_job_would_not_take(tmp_path: Path) -> None:
    samples = {
        "a": {"jpg": JPEG, "npy": NPY},
        "b": {"front.jpg": JPEG, "back.jpg": JPEG},
        "c": {"npy": NPY, "json": b"{}"},
    }
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for key, members in samples.items():
            for name, data in members.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found = validate(str(tmp_path))
    assert [(fault.key, fault.error) for fault in found.faults] == [("b", "SeveralImages"), ("c", "NoImage")]
