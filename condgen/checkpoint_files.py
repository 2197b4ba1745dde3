"""The names of a checkpoint's files, see `condgen.checkpoint`; whoever only looks for them needs no torch."""

from __future__ import annotations

__all__ = ["FILES", "META_NAME", "WEIGHTS_NAME"]

WEIGHTS_NAME = "model.safetensors"
META_NAME = "model.json"
FILES = (WEIGHTS_NAME, META_NAME)
"""The files of a checkpoint, relative to its folder."""
