"""Pictures of every kind that a disk holds are decoded as a viewer shows them, or refused with a reason."""

from __future__ import annotations
