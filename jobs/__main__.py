"""`python -m jobs` is `condgen`."""

from __future__ import annotations

from jobs.cli.app import main

if __name__ == "__main__":
    main()
