"""This project's reader: `pipelines.ray_data.reading.read_single`, consumed by the driver's `iter_batches`."""

from __future__ import annotations

from collections.abc import Iterator

from measure import BATCH, Batch, arguments, measure

from pipelines.cluster.starting import configure_data, ray_cluster
from pipelines.ray_data.reading import Decode, read_single


def main() -> None:
    """Measure."""
    given = arguments()
    column = Decode(encoded=given.mode == "raw", size_px=given.size_px if given.mode == "large" else 0)

    def one_pass() -> Iterator[Batch]:
        dataset = read_single(given.data, decode=column)
        if given.mode == "raw":
            for table in dataset.iter_batches(batch_size=BATCH, batch_format="pyarrow"):
                yield table["image"].to_pylist()
        else:
            for batch in dataset.iter_batches(batch_size=BATCH, batch_format="numpy"):
                yield batch["image"]

    with ray_cluster(num_cpus=given.workers):
        configure_data(verbose=False)
        measure(given, one_pass, ("condgen", "ray", "simplejpeg", "pillow", "pyarrow"))


if __name__ == "__main__":
    main()
