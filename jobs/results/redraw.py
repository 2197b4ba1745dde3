"""`condgen redraw`: one draw made again alone, compared with the stored one, and written as a file."""

from __future__ import annotations

from dataclasses import dataclass

from condgen.errors import ConfigError
from pipelines.batch.redrawing import RedrawnDraw, find_draw, redraw
from pipelines.images.decoding import decode
from pipelines.images.encoding import SUFFIXES, encode
from pipelines.models.source import open_model
from pipelines.storage.store import open_store, write_file

__all__ = ["RedrawReport", "run"]

_FORMATS = {**{suffix: name for name, suffix in SUFFIXES.items()}, "jpeg": "jpeg", "tiff": "tiff"}


@dataclass(frozen=True, kw_only=True)
class RedrawReport:
    """How the draw that was made again compares with the stored one; `out` is where it was written."""

    redrawn: RedrawnDraw
    out: str | None

    @property
    def exit_code(self) -> int:
        """The exit code: 1 where the pixels differ and the versions do not."""
        return 1 if self.redrawn.max_difference != 0 and not self.redrawn.other_versions else 0

    def lines(self) -> list[str]:
        """Return the report, a line each."""
        stored, row = self.redrawn.stored, self.redrawn.stored.row
        others = self.redrawn.other_versions
        lines = [
            f"draw          {row['draw']} of {row['key']} ({row['source']}), seed {row['seed']}",
            f"model         {stored.plan.model['family']} {stored.plan.model['digest'][:16]}",
            f"compared      {self._comparison()}",
        ]
        if others:
            changed = ", ".join(f"{name} {then} then, {now} now" for name, (then, now) in sorted(others.items()))
            lines.append(f"versions      {changed}")
        elif self.redrawn.max_difference != 0:
            lines.append("versions      the same: was it drawn on other hardware (a GPU, another kind of CPU)?")
        if self.out:
            lines.append(f"written       {self.out}")
        return lines

    def _comparison(self) -> str:
        if self.redrawn.is_identical:
            return "identical, pixels and bytes"
        if self.redrawn.max_difference is None:
            return "not identical: another size or depth"
        if self.redrawn.max_difference == 0:
            return "identical pixels, in other bytes"
        return f"not identical: pixels differ by at most {self.redrawn.max_difference} codes"


def run(
    results: str,
    *,
    key: str,
    draw: int,
    source: str | None = None,
    out: str | None = None,
    archive: str | None = None,
    model: str | None = None,
    trust_code: bool = False,
) -> RedrawReport:
    """Make a draw again from its row, and compare.

    Args:
        results: place that `condgen colorize` or `translate` wrote.
        key, draw, source: identity of the row; the source where its key is in several.
        out: file for the image, whose extension says the format.
        archive, model: places where they are now, if they have moved.
        trust_code: whether the model may be a file that is a program.

    Raises:
        As `pipelines.batch.redrawing.find_draw` and `pipelines.batch.redrawing.redraw`.
    """
    suffix = out.rpartition(".")[2].lower() if out else ""
    if out and suffix not in _FORMATS:
        raise ConfigError("--out", out, f"a file name that ends in .{', .'.join(_FORMATS)}")
    stored = find_draw(open_store(results).require(), key=key, draw=draw, source=source)
    there = open_model(model or stored.plan.model["uri"], trust_code=trust_code)
    redrawn = redraw(stored, archive=archive, model=there)
    if out:
        made_as = stored.plan.settings["output_format"]
        data = redrawn.image
        if _FORMATS[suffix] != made_as:
            data = encode(decode(data, keep_16_bit=True), _FORMATS[suffix])
        write_file(out, data)
    return RedrawReport(redrawn=redrawn, out=out)
