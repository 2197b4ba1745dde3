"""How a command ends, of many: `condgen verify` again and again, and the exit codes counted.

    condgen colorize photos/ results/
    benchmarks/verify_runs.py results/ --runs 1000 --busy 8

Now and then, an interpreter ends by a signal because a thread of a library lets go of a Python object too late; the
busier the machine, the more often. `--busy` adds processes that do nothing but compute. Exit code 1 where any failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from machine import describe

_BUSY = "while True: sum(range(1_000_000))"


def run(results: str) -> tuple[int, str]:
    """Verify results in a process of its own; return its exit code (negative: the signal) and its last words."""
    command = [sys.executable, "-m", "jobs", "verify", results]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, (ended.stderr or ended.stdout).strip().rpartition("\n")[2]


def main() -> int:
    """Run them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="what condgen colorize wrote")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep the machine busy")
    options = parser.parse_args()
    print(describe(), flush=True)
    began = time.monotonic()
    codes: Counter[int] = Counter()
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(options.busy)]
    try:
        with ThreadPoolExecutor(options.at_once) as pool:
            for code, words in pool.map(run, [options.results] * options.runs):
                codes[code] += 1
                if code:
                    print(f"run {codes.total()}: exit code {code}: {words}", flush=True)
                if codes.total() % 50 == 0:
                    print(f"{codes.total()} runs in {time.monotonic() - began:.0f} s: {dict(codes)}", flush=True)
    finally:
        for process in busy:
            process.kill()
    print(f"{codes.total()} runs in {time.monotonic() - began:.0f} s; exit codes: {dict(codes)}")
    return 1 if set(codes) != {0} else 0


if __name__ == "__main__":
    sys.exit(main())
