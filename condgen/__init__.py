"""condgen: conditional image models at archive scale.

The models: tensors in, tensors out. Importing this package, ``condgen.errors``, ``condgen.presets`` or
``condgen.families`` imports neither torch nor ray; everything that computes does.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
