"""What a million images cost: dollars and hours by measured CPU time, beside what others have published. Prints tables.

    python benchmarks/cost.py [--spot 0.0162] [--on-demand 0.0425] [--vcpus 96] [--images 1000000]

The prices are arguments, because they change by the day and the region; the defaults and their sources are in
`docs/cost.md`. A vCPU is taken for one of the cores that the CPU times were measured on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

SPOT = 1.555 / 96
ON_DEMAND = 4.08 / 96
"""Dollars an hour for a vCPU of a c5.24xlarge: Amazon's example of spot prices in us-east-1."""

G6 = {"g6.xlarge": 0.8048, "g6.2xlarge": 0.9776, "g6.4xlarge": 1.3232, "g6.8xlarge": 2.0144}
"""Dollars an hour on demand, us-east-1."""


@dataclass(frozen=True)
class Job:
    """A job of condgen's whose cost was measured.

    Attributes:
        name: what it does.
        cpu_ms: time of a core that an image takes in all of the job's processes (milliseconds).
        source: where the number is from.
    """

    name: str
    cpu_ms: float
    source: str


JOBS = (
    Job("`colorizer`, 3 draws of 640 px", 109.0, "docs/speed.md"),
    Job("`colorizer --point`, 640 px", 50.0, "its card: 40 images/s on 2 cores"),
    Job("`color-classifier-small`, 3 draws of 256 px", 7.31, "benchmarks/batch.py, in 0.2"),
)


@dataclass(frozen=True)
class Published:
    """What others have published of 803,580 images of ImageNet through a ResNet-18, on eight machines with a GPU."""

    name: str
    machine: str
    seconds: float
    source: str

    @property
    def dollars(self) -> float:
        """Price of the eight machines for as long as it took."""
        return 8 * G6[self.machine] * self.seconds / 3600


PUBLISHED_IMAGES = 803_580
PUBLISHED = (
    Published("Daft 0.6.2", "g6.xlarge", 263, "Daft"),
    Published("Ray Data 2.49.2", "g6.xlarge", 1410, "Daft"),
    Published("Spark (EMR 7.10)", "g6.xlarge", 2707, "Daft"),
    Published("Daft 0.6.2", "g6.xlarge", 315.0, "Ray"),
    Published("Ray Data 2.50", "g6.xlarge", 456.2, "Ray"),
    Published("Daft 0.6.2", "g6.2xlarge", 202.0, "Ray"),
    Published("Ray Data 2.50", "g6.2xlarge", 195.5, "Ray"),
    Published("Daft 0.6.2", "g6.4xlarge", 195.0, "Ray"),
    Published("Ray Data 2.50", "g6.4xlarge", 144.8, "Ray"),
    Published("Daft 0.6.2", "g6.8xlarge", 195.3, "Ray"),
    Published("Ray Data 2.50", "g6.8xlarge", 111.2, "Ray"),
)


def own_rows(images: int, vcpus: int, spot: float, on_demand: float) -> list[str]:
    """Return a row of Markdown for each of condgen's jobs."""
    rows = []
    for job in JOBS:
        hours = images * job.cpu_ms / 3.6e6
        cells = (f"{job.cpu_ms:.1f}", f"{hours:.1f}", f"{60 * hours / vcpus:.1f}")
        prices = (f"{hours * spot:.2f}", f"{hours * on_demand:.2f}")
        rows.append(f"| {job.name} | {' | '.join((*cells, *prices))} | {job.source} |")
    return rows


def published_rows() -> list[str]:
    """Return a row of Markdown for each published figure."""
    return [
        f"| {one.name} | 8 {one.machine} | {one.seconds:,.0f} | {PUBLISHED_IMAGES / one.seconds:,.0f} | "
        f"{one.dollars * 1e6 / PUBLISHED_IMAGES:.2f} | {one.source} |"
        for one in PUBLISHED
    ]


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spot", type=float, default=SPOT, help="dollars an hour for a vCPU")
    parser.add_argument("--on-demand", type=float, default=ON_DEMAND, help="dollars an hour for a vCPU")
    parser.add_argument("--vcpus", type=int, default=96, help="of all machines")
    parser.add_argument("--images", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(
        f"| {arguments.images:,} images | CPU ms an image | vCPU hours | minutes on {arguments.vcpus} vCPUs | $ spot |",
        end="",
    )
    print(" $ on demand | measured |\n| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    print("\n".join(own_rows(arguments.images, arguments.vcpus, arguments.spot, arguments.on_demand)))
    print("\n| published | machines | seconds | images/s | $ a million | by |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    print("\n".join(published_rows()))


if __name__ == "__main__":
    main()
