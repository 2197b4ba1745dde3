"""On a spot machine of AWS: wait for the notice that it is taken away, and tell Ray, which drains the node.

Ray's autoscaler takes no notice of it: the machine would be gone two minutes later, with what ran there. So told,
`condgen train` saves a checkpoint and goes on without this machine, and a batch job gives it no more work. Only the
standard library is used, and `ray` on the PATH.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

__all__ = ["Metadata", "drain", "remaining_s", "wait_for_notice"]

logger = logging.getLogger("leave_spot")

METADATA = "http://169.254.169.254"
SESSION_S = 21600
POLL_S = 5.0
MARGIN_S = 10  # Ray's deadline is before the machine's


class Metadata:
    """The machine's metadata service, in its second version: every question has a session's token.

    Args:
        url: address of the service (default: AWS's).
    """

    def __init__(self, url: str = METADATA) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._session = ""

    def get(self, path: str) -> str | None:
        """Return what the service has there, or None if it has nothing.

        Raises:
            OSError: the service gives no answer.
        """
        for _ in range(2):
            if not self._session:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(SESSION_S)}
                self._session = self._ask("/latest/api/token", "PUT", ttl)
            try:
                return self._ask(path, "GET", {"X-aws-ec2-metadata-token": self._session})
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code != 401:
                    raise
                self._session = ""  # the session is over
        raise PermissionError(f"{self._url}{path}: no session is accepted")

    def _ask(self, path: str, method: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(f"{self._url}{path}", method=method, headers=headers)  # noqa: S310  # http
        with self._opener.open(request, timeout=5) as answer:
            return str(answer.read().decode())


def wait_for_notice(metadata: Metadata) -> datetime:
    """Return the time at which the machine will be taken away, once there is a notice of it."""
    while True:
        try:
            notice = metadata.get("/latest/meta-data/spot/instance-action")
            if notice is not None:
                return datetime.fromisoformat(json.loads(notice)["time"])
        except (OSError, ValueError, KeyError) as error:
            logger.warning("no answer from the metadata service: %r", error)
        time.sleep(POLL_S)


def remaining_s(end: datetime) -> int:
    """Return the time that Ray has until the machine goes (seconds)."""
    return max(0, int((end - datetime.now(UTC)).total_seconds()) - MARGIN_S)


def drain(end: datetime) -> bool:
    """Tell Ray that this node goes at ``end``, again until it was heard; return whether it was."""
    while (left_s := remaining_s(end)) > 0:
        command = [
            "ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message", f"AWS takes this spot machine at {end.isoformat()}",
            "--deadline-remaining-seconds", str(left_s),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left_s, check=False)
        except subprocess.TimeoutExpired:
            break
        if done.returncode == 0:
            return True
        logger.warning("the head was not told: %s", (done.stderr.strip() or done.stdout.strip())[-500:])
        time.sleep(1)
    return False


def main() -> int:
    """Wait, tell Ray, and say how that went."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    end = wait_for_notice(Metadata(os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA)))
    logger.info("this machine is taken away at %s", end.isoformat())
    was_heard = drain(end)
    logger.info("Ray was told" if was_heard else "Ray was not told in time")
    return 0 if was_heard else 1


if __name__ == "__main__":
    raise SystemExit(main())
