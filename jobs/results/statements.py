"""What is said of one or two results' evaluations, as JSON: `python -m jobs.results.statements A [B]`.

A process of its own works it out for `condgen gallery`, whose server stays without torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from condgen.errors import CondgenError
from jobs.evaluation.compare import run as compare
from jobs.report.evaluation import read_section
from pipelines.storage.store import open_store

__all__ = ["state"]


def state(results: Sequence[str]) -> dict[str, Any]:
    """Return the table and sentences of each result's evaluation, and the lines of `condgen compare` of both."""
    evaluations = {}
    for name, uri in zip("AB", results, strict=False):
        try:
            section = read_section(open_store(uri))
        except CondgenError:
            continue
        if section is not None:
            rows = [[title, *cells] for title, cells in section.table.rows]
            evaluations[name] = {
                "answers": list(section.table.answers),
                "rows": rows,
                "sentences": list(section.sentences),
            }
    comparison = None
    if len(evaluations) > 1:
        try:
            comparison = compare(*results).lines()
        except CondgenError as error:
            comparison = [str(error)]
    return {"evaluations": evaluations, "comparison": comparison}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(state(sys.argv[1:])))
