"""How much color bleeds over edges at full size, by the way in which it comes there, and what each way costs.

    python benchmarks/bleeding.py [ROOT] [--sheet FILE.jpg]

A photograph's own color, averaged to the 40 x 40 cells that a model of 160 px and stride 4 predicts, is put back onto
its lightness: a model that knows each cell's mean exactly, so that all error is the upsampling's. ROOT is a folder in
which Debian's wallpapers were unpacked; the photographs among them are measured at 1,024 px, and without ROOT those of
scikit-image at their own size:

    apt-get download mate-backgrounds plasma-workspace-wallpapers
    for deb in *.deb; do dpkg-deb -x $deb ROOT; done

Beside what `recolor` has stand the two methods of the papers, with the parameters that were best on these photographs.
--sheet writes parts of scikit-image's photographs side by side: the original, bilinear, guided.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from machine import describe
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from condgen.color.colorize import Fitted, fit_square, recolor
from condgen.color.guide import make_guide
from condgen.color.lab import lab_to_rgb, rgb_to_lab
from condgen.metrics.bleeding import bleeding, crossing, edge_bands
from condgen.nn.unet import pool_to_stride, upsample_from_stride

SQUARE_PX, STRIDE, SIZE_PX, DRAWS = 160, 4, 1024, 3
DEBIAN = (
    *(
        f"usr/share/backgrounds/mate/nature/{name}.jpg"
        for name in ("Dune", "FreshFlower", "Garden", "LadyBird", "RainDrops", "TwoWings", "YellowFlower")
    ),
    *(
        f"usr/share/wallpapers/{name}/contents/images/2560x1600.jpg"
        for name in ("BytheWater", "ColorfulCups", "EveningGlow", "FallenLeaf", "Kite", "OneStandsOut", "Path")
    ),
    "usr/share/wallpapers/summer_1am/contents/images/2560x1600.jpg",
)
CROPS = (("astronaut.png", (128, 190)), ("coffee.png", (60, 160)))
CROP_PX = 256
SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")

Rgb: TypeAlias = NDArray[np.uint8]


class Case(NamedTuple):
    """A photograph, its true Lab, what a model sees of it, and what a perfect one says of its grid."""

    rgb: Rgb
    lab: Tensor
    fitted: Fitted
    grid: Tensor


Method: TypeAlias = Callable[[Case], Rgb]


def load(path: Path) -> Rgb:
    """A photograph, at most SIZE_PX long."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    rgb.thumbnail((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)
    return np.array(rgb)


def lab_of(rgb: Rgb) -> Tensor:
    """CIE Lab, `[3, H, W]`."""
    return rgb_to_lab(torch.from_numpy(rgb).movedim(-1, 0).float() / 255)


def case(rgb: Rgb) -> Case:
    """A photograph with the means of its color in the cells of the model's grid, ab / 110."""
    fitted = fit_square(rgb, SQUARE_PX)
    return Case(rgb, lab_of(rgb), fitted, pool_to_stride(torch.from_numpy(fitted.ab_n), STRIDE))


def paint_square(one: Case, ab_n: Tensor, *, guided: bool) -> Rgb:
    """The photograph with colors `[2, S, S]` of the square."""
    guide = make_guide(one.rgb, one.fitted.region, STRIDE) if guided else None
    painted: Rgb = recolor(one.rgb, ab_n[None], one.fitted.region, guide=guide)[0]
    return painted


def paint_full(one: Case, ab_n: Tensor) -> Rgb:
    """The photograph with colors `[2, H, W]` of its own size."""
    painted: Rgb = recolor(one.rgb, ab_n[None], (0, 0, *one.rgb.shape[:2]))[0]
    return painted


def upsampled(one: Case) -> Tensor:
    """The grid's colors as a model gives them, `[2, S, S]`."""
    return upsample_from_stride(one.grid, STRIDE, (SQUARE_PX, SQUARE_PX))


# ------------------------------------------------------------------------------------------------ the papers' methods


def places(one: Case) -> tuple[Tensor, Tensor]:
    """Where the photograph's rows and columns lie in the grid, in cells from the first one's center."""
    top, left, height, width = one.fitted.region

    def axis(start: int, length: int, pixels: int) -> Tensor:
        return (start + (torch.arange(pixels) + 0.5) * length / pixels) / STRIDE - 0.5

    return axis(top, height, one.rgb.shape[0]), axis(left, width, one.rgb.shape[1])


def bilinear_full(one: Case, cells: Tensor) -> Tensor:
    """`[C, h, w]` of the grid interpolated at the photograph's pixels."""
    y, x = places(one)
    size = cells.shape[-1]
    at = torch.stack(torch.broadcast_tensors((2 * x + 1) / size - 1, ((2 * y + 1) / size - 1)[:, None]), dim=-1)
    sampled = F.grid_sample(cells[None], at[None], mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0]


def lightness_cells(one: Case) -> Tensor:
    """Mean L of the grid's cells, `[1, h, w]`."""
    return pool_to_stride(torch.from_numpy(one.fitted.l_n), STRIDE) * 50 + 50


def joint_bilateral(one: Case, *, spread_l: float = 5.0) -> Rgb:
    """Kopf et al. 2007, "Joint bilateral upsampling", eq. 3: four cells, a tent in space, a Gaussian over lightness."""
    lightness, (y, x) = lightness_cells(one)[0], places(one)
    total, weights = torch.zeros(2, *one.rgb.shape[:2]), torch.zeros(one.rgb.shape[:2])
    last = lightness.shape[0] - 1
    for down in (0, 1):
        for across in (0, 1):
            row, column = y.floor() + down, x.floor() + across
            tent = (1 - (y - row).abs())[:, None] * (1 - (x - column).abs())
            at = row.long().clamp(0, last)[:, None], column.long().clamp(0, last)
            closeness = torch.exp(-((one.lab[0] - lightness[at]) ** 2) / (2 * spread_l**2)) + 1e-3
            total += tent * closeness * one.grid[:, *at]
            weights += tent * closeness
    return paint_full(one, total / weights)


def fast_guided_filter(one: Case, *, radius: int = 1, ridge: float = 10.0) -> Rgb:
    """He and Sun 2015, "Fast guided filter", algorithm 2: coefficients at the grid, applied at full size."""

    def box(cells: Tensor) -> Tensor:
        padded = F.pad(cells[None], (radius,) * 4, mode="replicate")
        return F.avg_pool2d(padded, 2 * radius + 1, 1)[0]

    lightness = lightness_cells(one)
    mean_l, mean_ab = box(lightness), box(one.grid)
    slope = (box(lightness * one.grid) - mean_l * mean_ab) / (box(lightness.square()) - mean_l.square() + ridge)
    offset = mean_ab - slope * mean_l
    return paint_full(one, bilinear_full(one, box(slope)) * one.lab[:1] + bilinear_full(one, box(offset)))


METHODS: Mapping[str, Method] = {
    "bilinear": lambda one: paint_square(one, upsampled(one), guided=False),
    "joint bilateral (Kopf et al. 2007)": joint_bilateral,
    "fast guided filter (He, Sun 2015)": fast_guided_filter,
    "guided": lambda one: paint_square(one, upsampled(one), guided=True),
}
REFERENCE = "true color at 160 px, bilinear"


def exact_square(one: Case) -> Rgb:
    """What four times as fine a grid would give."""
    return paint_square(one, torch.from_numpy(one.fitted.ab_n), guided=False)


# ------------------------------------------------------------------------------------------------------- disturbances


def grain(rgb: Rgb, spread: float = 6.0) -> Rgb:
    """The photograph with film grain: noise of this standard deviation in L, its color the same."""
    lab = lab_of(rgb)
    lab[0] += spread * torch.randn(lab.shape[1:], generator=torch.Generator().manual_seed(0))
    return back_to_rgb(lab)


def halftone(rgb: Rgb, period_px: float = 6.0) -> Rgb:
    """The photograph as printed dots of L at 45 degrees, its color the same."""
    lab = lab_of(rgb)
    y, x = torch.arange(lab.shape[1])[:, None], torch.arange(lab.shape[2])
    turn = 2 * torch.pi / period_px / 2**0.5
    screen = 50 + 25 * (torch.cos(turn * (x + y)) + torch.cos(turn * (x - y)))
    lab[0] = torch.sigmoid((lab[0] - screen) / 6) * 80 + 10
    return back_to_rgb(lab)


def back_to_rgb(lab: Tensor) -> Rgb:
    """Codes of Lab `[3, H, W]`; what is outside the gamut is clipped."""
    lab[0].clamp_(0, 100)
    return np.asarray((lab_to_rgb(lab).clamp(0, 1) * 255).round().byte().movedim(0, -1))


# ------------------------------------------------------------------------------------------------------------- tables


def errors(method: Method, cases: Sequence[Case], truths: Sequence[Case]) -> NDArray[np.float64]:
    """Mean over photographs of `condgen.metrics.bleeding.Bleeding`'s four numbers."""
    rows = [
        astuple(bleeding(lab_of(method(one))[1:], truth.lab[1:], edge_bands(truth.lab)))
        for one, truth in zip(cases, truths, strict=True)
    ]
    return np.nanmean(np.array(rows), axis=0)


def table(title: str, methods: Mapping[str, Method], cases: Sequence[Case], truths: Sequence[Case]) -> None:
    """Print the errors of each method, and those at edges as a share of the first method's."""
    print(f"\n{title}")
    print(f"{'error in ab':36}{'all':>8}{'at edges':>10}{'ratio':>8}{'edges of L':>12}{'elsewhere':>11}{'ratio':>8}")
    first = None
    for name, method in methods.items():
        overall, edges, lightness, rest = errors(method, cases, truths)
        first = first or (edges, rest)
        ratios = edges / first[0], rest / first[1]
        print(f"{name:36}{overall:8.2f}{edges:10.2f}{ratios[0]:8.2f}{lightness:12.2f}{rest:11.2f}{ratios[1]:8.2f}")


def two_areas() -> None:
    """Print how far color crosses the edge of two flat areas, over the places of the edge in a cell."""
    print("\nTwo flat areas at 1,024 px (cells of 25.6 px), 8 places of the edge: pixels of color on the wrong side")
    print(f"{'step of L':12}" + "".join(f"{name:>24}" for name in ("bilinear", "guided")) + "   width (reach)")
    for step in (60, 40, 20, 10, 5, 0):
        cells = []
        for guided in (False, True):
            widths, reaches = [], []
            for edge in range(500, 526, 3)[:8]:
                lab = torch.tensor([50.0 - step / 2, 14.0, -12.0])[:, None, None].repeat(1, 256, SIZE_PX)
                lab[:, :, edge:] = torch.tensor([50.0 + step / 2, -6.0, 16.0])[:, None, None]
                rgb = back_to_rgb(lab)
                one = case(rgb)
                painted = lab_of(paint_square(one, upsampled(one), guided=guided))[1:, 96:160]
                found = crossing(painted, one.lab[1:, 0, 0], one.lab[1:, 0, -1], edge)
                widths.append(found.width_px)
                reaches.append(found.reach_px)
            cells.append(f"{np.mean(widths):14.1f} ({max(reaches):4d})   ")
        print(f"{step:<12}" + "".join(f"{cell:>24}" for cell in cells))


def cpu_ms(work: Callable[[], object], runs: int) -> float:
    """Least CPU milliseconds of some runs, after one more."""
    work()
    spent = []
    for _ in range(runs):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent) * 1e3


def cost(label: str, image: NDArray[np.uint8] | NDArray[np.uint16], draws: int, runs: int) -> None:
    """Print a line of `costs`."""
    coarse = np.random.default_rng(0).normal(0, 0.2, (draws, 2, 40, 40)).astype(np.float32)
    ab_n = upsample_from_stride(torch.from_numpy(coarse), STRIDE, (SQUARE_PX, SQUARE_PX))
    region, size = fit_square(image, SQUARE_PX).region, image.shape[0] * image.shape[1] * draws / 1e6
    plain = cpu_ms(lambda: recolor(image, ab_n, region), runs) / size
    guided = cpu_ms(lambda: recolor(image, ab_n, region, guide=make_guide(image, region, STRIDE)), runs) / size
    print(f"{label:34}{plain:10.1f}{guided:10.1f}{guided / plain:8.2f}")


def costs() -> None:
    """Print what guided upsampling costs beside bilinear: CPU in one thread, its guide included."""
    print(f"\n{'CPU ms a megapixel and draw':34}{'bilinear':>10}{'guided':>10}{'ratio':>8}")
    source = np.array(Image.open(skimage_folder() / "astronaut.png").convert("RGB"))
    many = np.tile(source, (6, 8, 1))[:3000, :4000]
    for label, rgb, runs in (("256 px", source[:256, :256], 60), ("12 megapixels", many, 5)):
        for bits, image in ((8, rgb), (16, rgb.astype(np.uint16) * 257)):
            for draws in (DRAWS, 1):
                cost(f"{label}, {bits} bits, K = {draws}", np.ascontiguousarray(image), draws, runs)


def write_sheet(path: Path) -> None:
    """Write parts of photographs side by side: the original, bilinear, guided."""
    rows = []
    for name, (top, left) in CROPS:
        one = case(load(skimage_folder() / name))
        images = (one.rgb, *(paint_square(one, upsampled(one), guided=guided) for guided in (False, True)))
        parts = [image[top : top + CROP_PX, left : left + CROP_PX] for image in images]
        rows.append(np.concatenate([np.pad(part, ((0, 4), (0, 4), (0, 0)), constant_values=255) for part in parts], 1))
    Image.fromarray(np.concatenate(rows)).save(path, quality=88, subsampling=0)


def skimage_folder() -> Path:
    """Where scikit-image keeps its photographs."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("no photographs: install the extra `demo`")
    return Path(spec.submodule_search_locations[0]) / "data"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, help="where Debian's wallpapers were unpacked")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a sheet of images, and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.sheet:
        write_sheet(options.sheet)
        return
    root = options.root
    paths = [root / name for name in DEBIAN] if root else [skimage_folder() / name for name in SKIMAGE]
    photographs = [load(path) for path in paths]
    truths = [case(rgb) for rgb in photographs]
    where = "at 1,024 px" if root else "of scikit-image, at their own size"
    print(describe())
    table(f"{len(truths)} photographs {where}", {**METHODS, REFERENCE: exact_square}, truths, truths)
    for name, disturb in (("grain", grain), ("halftone dots", halftone)):
        cases = [case(disturb(rgb))._replace(grid=one.grid) for rgb, one in zip(photographs, truths, strict=True)]
        table(f"the same with {name}", METHODS, cases, truths)
    two_areas()
    costs()


if __name__ == "__main__":
    main()
