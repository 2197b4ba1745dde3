"""The revision of condgen's source, where it is a checkout: it is noted with each run."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["source_revision"]


def source_revision(folder: Path | None = None) -> str | None:
    """Return the git commit that is checked out, with ``-dirty`` where tracked files differ from it.

    Args:
        folder: root of the source (default: condgen's own).

    Returns:
        The commit's name; None where the source is no checkout, as in an installed package, or git is not there.
    """
    root = folder or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # else a checkout around an installation would answer
        return None
    describe = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
