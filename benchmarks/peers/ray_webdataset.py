"""`ray.data.read_webdataset`, with its own decoder for pictures, consumed by the driver's `iter_batches`.

Large pictures take a decoder of the user's, as its documentation has it: its own would hold 512 whole ones in a block.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import BATCH, Batch, arguments, measure


def _square(sample: dict[str, Any], size_px: int) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return {"jpg": np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box))}


def main() -> None:
    """Measure."""
    given = arguments()
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray
    import ray.data

    paths = Path(given.data).read_text().split()
    filesystem = None
    if paths[0].startswith("s3://"):
        from pyarrow.fs import S3FileSystem

        endpoint = os.environ["AWS_ENDPOINT_URL"]
        filesystem = S3FileSystem(endpoint_override=endpoint, region=os.environ["AWS_DEFAULT_REGION"])
        paths = [path.removeprefix("s3://") for path in paths]
    decoder = {"raw": None, "decoded": True, "large": lambda sample: _square(sample, given.size_px)}[given.mode]

    def one_pass() -> Iterator[Batch]:
        dataset = ray.data.read_webdataset(paths, filesystem=filesystem, decoder=decoder, suffixes=["jpg"])
        for batch in dataset.iter_batches(batch_size=BATCH, batch_format="numpy"):
            yield batch["jpg"].tolist() if given.mode == "raw" else batch["jpg"]

    ray.init(num_cpus=given.workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().print_on_execution_start = False
    measure(given, one_pass, ("ray", "pillow", "pyarrow"))
    ray.shutdown()


if __name__ == "__main__":
    main()
