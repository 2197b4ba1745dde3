"""The chapter's claims on worlds whose truth is known: `condgen chapter`, from a checkout.

python benchmarks/chapter.py [OUT] [--quick] [--only NAME ...]
"""

from __future__ import annotations

import sys

from jobs.cli.app import main

if __name__ == "__main__":
    sys.argv[1:1] = ["chapter"]
    main()
