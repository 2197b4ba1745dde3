"""infra/local/s3.py and ceph.py start real servers, with rights that are checked."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_what_is_written_is_read_back(each_s3: Any) -> None:
    uri = each_s3.uri("first")
    each_s3.filesystem().pipe_file(f"{uri}/a/b.bin", bytes(range(256)))
    assert each_s3.filesystem().cat_file(f"{uri}/a/b.bin", start=10, end=20) == bytes(range(10, 20))


def test_a_wrong_secret_is_refused(each_s3: Any) -> None:
    import s3fs

    each_s3.uri("second")
    stranger = s3fs.S3FileSystem(
        key=each_s3.env["AWS_ACCESS_KEY_ID"], secret="wrong", endpoint_url=each_s3.endpoint, skip_instance_cache=True
    )
    with pytest.raises(PermissionError):
        stranger.ls("second")


def test_ray_workers_reach_the_server(ray_cluster: None, s3: Any) -> None:
    import ray

    uri = s3.uri("third")
    s3.filesystem().pipe_file(f"{uri}/x", b"seen")

    @ray.remote
    def read() -> bytes:
        import fsspec

        with fsspec.open(f"{uri}/x", "rb") as file:
            return bytes(file.read())

    assert ray.get(read.remote()) == b"seen"


def test_a_gateway_without_its_programs_says_how_to_install_them() -> None:
    script = Path(__file__).resolve().parents[2] / "infra" / "local" / "ceph.py"
    done = subprocess.run(
        [sys.executable, script, "start"], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "radosgw" in done.stderr
    assert "apt-get install" in done.stderr
