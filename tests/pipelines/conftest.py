"""What the tests of pipelines share."""

from __future__ import annotations

import sys
from pathlib import Path

# Helpers beside the tests (`samples`) are imported by name, as pytest's importlib mode has no packages.
sys.path.insert(0, str(Path(__file__).parent))
