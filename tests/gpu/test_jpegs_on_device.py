"""JPEGs encoded by torchvision on the device at hand: as good as Pillow's, the same bytes each time, with metadata.

Without a GPU these run on the CPU alone, where torchvision halves the colors' size. They need Pillow, simplejpeg and
numba besides condgen, torch and pytest: `make gpu`.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("PIL")
pytest.importorskip("simplejpeg")

from torchvision.io import encode_jpeg

from condgen.device_stream import own_stream
from condgen.errors import ImageError, JobError
from pipelines.images import device_jpeg
from pipelines.images.decoding import decode
from pipelines.images.encoding import encode
from pipelines.images.metadata import Metadata, read_metadata


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    return torch.device(request.param)


def photo(seed: int, height: int = 120, width: int = 161) -> NDArray[np.uint8]:
    """An image with smooth areas and edges of little color."""
    y, x = np.mgrid[:height, :width]
    plane = np.sin(x / (9.0 + seed)) + np.cos(y / 5.0) + 2.0 * (x > y)
    values = np.stack([plane, plane * 0.9, plane * 0.8 + 0.2], -1)
    return np.clip((values + 2.0) / 6.0 * 255, 0, 255).astype(np.uint8)


def error(rgb: NDArray[np.uint8], data: bytes) -> float:
    """The root mean square difference of an image and its JPEG."""
    return float(np.sqrt(np.square(rgb.astype(float) - decode(data)).mean()))


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("shape", [(120, 161), (1, 1), (7, 300), (1200, 1601)])
def test_an_image_is_as_near_as_pillow_has_it(shape: tuple[int, int], quality: int, device: torch.device) -> None:
    rgb = photo(0, *shape)
    data = encode(rgb, quality=quality, device=device)
    assert decode(data).shape == rgb.shape
    assert error(rgb, data) < 1.2 * error(rgb, encode(rgb, quality=quality)) + 0.5
    assert data == encode(rgb.copy(), quality=quality, device=device)


def test_threads_get_their_own_images_while_the_device_has_other_work(device: torch.device) -> None:
    photos = [photo(seed) for seed in range(32)]
    alone = [encode(rgb, device=device) for rgb in photos]
    done = threading.Event()

    def keep_busy() -> None:
        large = torch.ones((2048, 2048) if device.type == "cuda" else (64, 64), device=device)
        while not done.is_set():
            large = (large @ large).clamp(0, 1)
            float(large.sum())

    def encoded(rgb: NDArray[np.uint8]) -> bytes:
        if device.type == "cuda":
            with own_stream(device):
                torch.cuda._sleep(1_000_000)  # cycles that the image waits for
        return encode(rgb, device=device)

    with ThreadPoolExecutor(9) as pool:
        busy = pool.submit(keep_busy)
        for _ in range(4):
            assert list(pool.map(encoded, photos)) == alone
        done.set()
        busy.result()


def test_metadata_comes_along(device: torch.device) -> None:
    metadata = Metadata(resolution_dpi=(300.0, 150.0), has_profile=True)
    assert read_metadata(encode(photo(0), metadata=metadata, device=device)) == metadata
    assert read_metadata(encode(photo(0), device=device)) == Metadata()


def test_an_image_that_no_jpeg_holds_is_an_error_of_its_own(device: torch.device) -> None:
    with pytest.raises(ImageError, match="65,500 a side"):
        encode(np.zeros((65_501, 1, 3), np.uint8), device=device)


@pytest.mark.parametrize(
    ("raised", "times", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 1, None),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, JobError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), 2, JobError),
        (RuntimeError("image encoding failed: 6"), 2, JobError),
        (RuntimeError("Failed to create nvjpeg encoder state: 5"), 2, JobError),
        (RuntimeError("image encoding failed: 3"), 2, ImageError),
    ],
)
def test_the_image_is_at_fault_only_if_the_device_is_not(
    raised: Exception, times: int, expected: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = encode(photo(0), device=torch.device("cpu"))
    errors, emptied = [raised] * times, []

    def failing(images: list[torch.Tensor], quality: int) -> list[torch.Tensor]:
        if errors:
            raise errors.pop()
        return encode_jpeg(images, quality)

    monkeypatch.setattr(device_jpeg, "encode_jpeg", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    if expected is None:
        assert encode(photo(0), device=torch.device("cpu")) == plain
    else:
        with pytest.raises(expected):
            encode(photo(0), device=torch.device("cpu"))
    assert (errors, emptied) == ([], [True])


def test_a_device_that_has_failed_is_not_the_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(device_jpeg, "encode_jpeg", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", failing)
    with pytest.raises(JobError, match="illegal memory access"):
        encode(photo(0), device=torch.device("cpu"))
