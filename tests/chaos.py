"""What breaks a cluster on purpose: several nodes of Ray on this machine, a job on them, and faults drawn by a seed.

with ChaosCluster(folder, env) as cluster:
chaos = Chaos(cluster, job, proxy, seed=1)
chaos.run(faults=30)
chaos.counts     # {"worker": 9, "actor": 5, "node": 4, "driver": 4, "s3": 6, "disk": 2}
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_cluster import START_S, ChaosCluster, kill_session
from faults import FaultProxy

__all__ = ["KINDS", "Chaos", "Job"]

KINDS = ("worker", "actor", "node", "driver", "s3", "disk")
_WEIGHTS = (5, 3, 2, 3, 5, 2)
_S3_FAULTS = ("slow_down", "reset", "cut", "stall")
_DISK_S = 6.0
_PROGRESS_S = 4.0


@dataclass
class Job:
    """A command that is run again when it was killed.

    Attributes:
        command: of the driver.
        cwd: its working directory.
        committed: counts the chunks that are committed.
        chunks: in all.
        brake: the file that holds the model while it is there.
        kills: how often the driver was killed.
    """

    command: Sequence[str]
    cwd: Path
    committed: Callable[[], int]
    chunks: int
    brake: Path
    kills: int = 0
    outputs: list[str] = field(default_factory=list)
    _process: subprocess.Popen[Any] | None = None

    def start(self, cluster: ChaosCluster) -> None:
        """Run the command."""
        env = {**cluster.env, "RAY_ADDRESS": cluster.address}
        self._log = self.cwd / f"driver-{self.kills}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self.cwd, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """What it has written, stdout and stderr."""
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        kill_session(self._process)
        self.outputs.append(self.output())
        self.kills += 1

    def end(self, seconds: float) -> int:
        """Wait for its end."""
        return self._process.wait(seconds)


class Chaos:
    """Faults over one job, one every few seconds, each kind at least once.

    Args:
        cluster: on which the job runs.
        job: not started yet.
        proxy: between the workers and S3.
        seed: decides which faults in which order, whom they hit and when.
        say: is told of each fault.
    """

    def __init__(
        self, cluster: ChaosCluster, job: Job, proxy: FaultProxy, seed: int, say: Callable[[str], None] = print
    ) -> None:
        self._cluster, self._job, self._proxy, self._say = cluster, job, proxy, say
        self._rng = random.Random(seed)
        self._disk_until = 0.0
        self.counts: Counter[str] = Counter()
        self.details: Counter[str] = Counter()
        self._begun = time.monotonic()

    def plan(self, faults: int) -> list[str]:
        """The kinds of so many faults, each kind at least once where there are enough."""
        kinds = [*KINDS[:faults], *self._rng.choices(KINDS, _WEIGHTS, k=max(0, faults - len(KINDS)))]
        self._rng.shuffle(kinds)
        return kinds

    def run(self, faults: int, *, every_s: tuple[float, float] = (1.5, 3.0)) -> None:
        """Start the job, hurt it so often, and see it to its end.

        Raises:
            AssertionError: it ended by itself, or not at all.
        """
        self._job.brake.touch()
        self._job.start(self._cluster)
        try:
            for done, kind in enumerate(self.plan(faults)):
                self._pause(self._rng.uniform(*every_s), done / faults, _PROGRESS_S)
                self._until_hit(kind, done / faults)
                self.counts[kind] += 1
            self._job.brake.unlink(missing_ok=True)
            self._release_disk()
            code = self._job.end(300)
        except BaseException:
            self._job.kill()
            raise
        self._say(f"{self._time():6.1f} s  the job has ended with {code}")
        assert code == 0, self._job.output()

    def _time(self) -> float:
        return time.monotonic() - self._begun

    def _pause(self, seconds: float, share: float, more_s: float = 0.0) -> None:
        """Let the job work so long, and a little longer where it is behind its share; but not past its share."""
        until = time.monotonic() + seconds
        latest, is_ahead = until + more_s, False
        while time.monotonic() < until or (not is_ahead and time.monotonic() < latest):
            is_ahead = self._job.committed() >= 1 + share * (self._job.chunks - 2)
            if is_ahead:
                self._job.brake.touch()
            else:
                self._job.brake.unlink(missing_ok=True)
            if self._disk_until and time.monotonic() > self._disk_until:
                self._release_disk()
            code = self._job.code()
            assert code is None, f"the driver ended by itself with {code}: {self._job.output()}"
            time.sleep(0.1)

    def _until_hit(self, kind: str, share: float) -> None:
        deadline = time.monotonic() + START_S
        while not (told := getattr(self, f"_hit_{kind}")()):
            assert time.monotonic() < deadline, f"nothing to hit for {kind}"
            self._pause(0.3, share)
        self._say(f"{self._time():6.1f} s  {kind}: {told}  ({self._job.committed()} of {self._job.chunks} chunks)")

    def _hit_worker(self) -> str:
        workers = self._cluster.workers()
        if not workers:
            return ""
        pid = self._rng.choice(workers)
        os.kill(pid, signal.SIGKILL)
        return f"SIGKILL of an actor's process ({len(workers)} there)"

    def _hit_actor(self) -> str:
        final = self._rng.random() < 0.5
        killed = self._cluster.ask("kill_actor", self._rng.randrange(100), final)
        return f"ray.kill of an actor, {'for good' if final else 'to be restarted'}" if killed else ""

    def _hit_node(self) -> str:
        if self._cluster.live_nodes() < 2:
            return ""
        return "SIGKILL of a raylet" if self._cluster.kill_node(self._rng.randrange(100)) else ""

    def _hit_driver(self) -> str:
        self._job.kill()
        self._job.start(self._cluster)
        return "SIGKILL of the driver, run again"

    def _hit_s3(self) -> str:
        fault, times = self._rng.choice(_S3_FAULTS), self._rng.randint(1, 3)
        self._proxy.inject(fault, 1 if fault == "stall" else times, after=self._rng.randrange(4))
        self.details[fault] += 1
        return f"S3 {fault}"

    def _hit_disk(self) -> str:
        if self._disk_until:
            return ""
        if self._cluster.is_spill_mounted:
            with (self._cluster.spill / "full").open("wb") as sink:
                try:
                    for _ in range(64):
                        sink.write(bytes(1 << 18))
                        sink.flush()
                except OSError:
                    pass
        else:
            self._cluster.spill.chmod(0o500)
        self._disk_until = time.monotonic() + _DISK_S
        refused = self._cluster.ask("fill")
        what = "full disk (tmpfs)" if self._cluster.is_spill_mounted else "unwritable folder"
        self.details[f"disk: {refused}"] += 1
        return f"{what} under the spill directory, object store filled until {refused}"

    def _release_disk(self) -> None:
        if self._disk_until:
            (self._cluster.spill / "full").unlink(missing_ok=True)
            self._cluster.spill.chmod(0o755)
            self._cluster.ask("free")
            self._disk_until = 0.0
