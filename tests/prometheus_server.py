"""A real Prometheus on loopback, and questions to its HTTP API."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Prometheus", "prometheus", "wait_until"]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, by its address."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of the API; None where it does not listen yet."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:  # a query that it does not understand
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error
        except OSError:
            return None

    def query(self, text: str) -> list[tuple[Mapping[str, str], float]]:
        """Return the series that answer a query now, each by its labels and its value."""
        data = self.get("query", query=text)
        return [(row["metric"], float(row["value"][1])) for row in data["result"]] if data else []


@contextmanager
def prometheus(program: str, config: Mapping[str, Any], folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with this configuration, whose files go into a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))
    command = [program, f"--config.file={path}", f"--storage.tsdb.path={folder}/tsdb"]
    with (
        (folder / "prometheus.log").open("w") as log,
        subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log) as server,
    ):
        try:
            yield Prometheus(address)
        finally:
            server.terminate()


def wait_until(what: str, ready: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what is true of `ready` as soon as it is."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        assert time.monotonic() < deadline, f"{what} took longer than {seconds:.0f} s"
        time.sleep(0.5)
    return answer
