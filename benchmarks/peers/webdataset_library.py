"""The webdataset library: `WebDataset` and `WebLoader` with a worker a core; S3 by `pipe:curl` and presigned URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from measure import BATCH, Batch, arguments, measure
from PIL import Image


def main() -> None:
    """Measure."""
    import torch
    import webdataset

    given = arguments()
    torch.set_num_threads(1)
    urls = Path(given.data).read_text().split()
    urls = [f"pipe:curl -s -f '{url}'" if url.startswith("http") else url for url in urls]

    def square(image: Image.Image) -> Any:
        import numpy as np

        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((given.size_px, given.size_px), Image.Resampling.BILINEAR, box=box))

    stages: dict[str, list[Any]] = {
        "raw": [webdataset.to_tuple("jpg")],
        "decoded": [webdataset.decode("rgb8"), webdataset.to_tuple("jpg")],
        "large": [webdataset.decode("pil"), webdataset.to_tuple("jpg"), webdataset.map_tuple(square)],
    }
    dataset = webdataset.DataPipeline(
        webdataset.SimpleShardList(urls),
        webdataset.split_by_worker,
        webdataset.tarfile_to_samples(),
        *stages[given.mode],
        webdataset.batched(BATCH, partial=True),
    )
    workers = min(given.workers, len(urls))
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=True)

    def one_pass() -> Any:
        batch: tuple[Batch]
        for batch in loader:
            yield batch[0]

    measure(given, one_pass, ("webdataset", "torch", "pillow"))


if __name__ == "__main__":
    main()
