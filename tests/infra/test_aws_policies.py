"""The policies of infra/aws: linted, and enforced by a real gateway (Ceph's) while condgen works under each of them."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest
from samples import gradient, saved, tar_of
from scripts import ROOT, load_script
from small_results import write_picture

from condgen.errors import AccessError, MissingError
from pipelines.storage.store import Store, open_store

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

POLICIES = ROOT / "infra" / "aws" / "policies"
BUCKET = "condgen-data"
USERS = ("train", "batch", "reader")
TINY = [
    "model.width=8",
    "model.multipliers=[1,2]",
    "model.norm_groups=4",
    "data.size_px=16",
    "train.batch_size=8",
    "train.steps=6",
    "train.checkpoint_every_steps=1",
]


def read(name: str) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text())
    return policy


# --- what a linter says ---


@pytest.fixture(scope="module")
def parliament() -> Iterator[ModuleType]:
    """The linter, which looks for its own data by a module that setuptools has no more."""
    resources = ModuleType("pkg_resources")
    resources.resource_filename = lambda name, file: str(  # type: ignore[attr-defined]
        Path(str(sys.modules[name].__file__)).with_name(file)
    )
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "pkg_resources", resources)
        import parliament

        yield parliament


def findings(parliament: ModuleType, policy: Mapping[str, Any]) -> list[tuple[str, Any]]:
    analyzed = parliament.analyze_policy_string(json.dumps(policy))
    return [(finding.issue, finding.detail) for finding in analyzed.findings]


@pytest.mark.parametrize("name", [path.stem for path in sorted(POLICIES.glob("*.json"))])
def test_the_linter_finds_nothing_in_a_policy(parliament: ModuleType, name: str) -> None:
    for issue, detail in findings(parliament, read(name)):
        # A launch concerns resources of many kinds, each of which has a statement with its own conditions.
        assert issue == "RESOURCE_MISMATCH"
        assert {part["action"] for part in detail} == {"ec2:RunInstances"}


def test_the_linter_finds_what_is_wrong(parliament: ModuleType) -> None:
    policy = read("train")
    policy["Statement"][1]["Action"] = "s3:GetObjects"
    policy["Statement"][2]["Resource"] = f"arn:aws:s3:::{BUCKET}"
    assert {issue for issue, _ in findings(parliament, policy)} >= {"UNKNOWN_ACTION", "RESOURCE_MISMATCH"}


def test_no_policy_allows_more_than_it_names() -> None:
    for path in POLICIES.glob("*.json"):
        for statement in read(path.stem)["Statement"]:
            if statement["Effect"] == "Allow":
                actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
                assert not [action for action in actions if "*" in action]
                assert statement["Resource"] != "*" or actions == ["ec2:DescribeInstances"]


# --- what a gateway enforces ---


class Gateway:
    """Ceph's gateway, with a user for each policy."""

    def __init__(self, folder: Path, script: Any) -> None:
        self._folder = folder
        self._script = script
        self._server: Any = None

    def __enter__(self) -> Self:
        self._server = self._script.start(self._folder, 0, "owner", "owners-secret")
        self._admin("caps", "add", "--uid=test", "--caps=user-policy=*")
        self.client("owner").create_bucket(Bucket=BUCKET)
        # In Ceph, objects belong to those who wrote them; on AWS, to the bucket's owner.
        everything = {"Effect": "Allow", "Action": "s3:*", "Resource": [f"arn:aws:s3:::{BUCKET}/*"]}
        self._allow("test", json.dumps({"Version": "2012-10-17", "Statement": [everything]}))
        for name in USERS:
            keys = (f"--access-key={name}", f"--secret={name}s-secret")
            self._admin("user", "create", f"--uid={name}", f"--display-name={name}", "--max-buckets=-1", *keys)
            self._allow(name, (POLICIES / f"{name}.json").read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self._script.stop(self._folder)

    def _allow(self, user: str, policy: str) -> None:
        self.client("owner", "iam").put_user_policy(UserName=user, PolicyName=user, PolicyDocument=policy)

    def _admin(self, *arguments: str) -> None:
        command = ["radosgw-admin", "--conf", f"{self._folder}/ceph.conf", "-n", "client.rgw.a", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def env(self, user: str) -> dict[str, str]:
        """The environment of a user's commands."""
        keys = {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": f"{user}s-secret"}
        return self._script.environment(self._server) | keys

    def client(self, user: str, service: str = "s3") -> Any:
        """AWS's own client."""
        import boto3
        from botocore.config import Config

        env = self.env(user)
        checksums = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
        return boto3.client(
            service,
            endpoint_url=env["AWS_ENDPOINT_URL"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(**checksums),
        )

    def store(self, user: str, prefix: str) -> Store:
        """A place in the bucket, as a user sees it."""
        env = self.env(user)
        return open_store(
            f"s3://{BUCKET}/{prefix}",
            key=env["AWS_ACCESS_KEY_ID"],
            secret=env["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=env["AWS_ENDPOINT_URL"],
        )


@pytest.fixture(scope="module")
def gateway(_s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    base, script = _s3_server[0], load_script("ceph")
    try:
        script.require_programs()
    except base.ServerError as error:
        pytest.skip(str(error))
    with Gateway(tmp_path_factory.mktemp("ceph"), script) as gateway:
        owner = gateway.store("owner", "")
        members = [(f"{number:04d}.jpg", saved(gradient(number, (40, 40)), "JPEG")) for number in range(32)]
        owner.write("dataset/train-000000.tar", tar_of(members))
        pictures = tmp_path_factory.mktemp("archive")
        for number in range(3):
            write_picture(pictures / f"{number}.png", number)
            owner.write(f"archive/{number}.png", (pictures / f"{number}.png").read_bytes())
        for prefix in ("dataset2", "other", "runs/second", "results-of-others"):
            owner.write(f"{prefix}/kept.txt", b"not yours")
        yield gateway


Condgen = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def run(gateway: Gateway, condgen_process: Callable[..., subprocess.Popen[str]]) -> Condgen:
    """Run condgen as a user of the gateway, with a Ray of its own; returns the exit code and all that it said."""

    def run(user: str, *arguments: str) -> tuple[int, str]:
        process = condgen_process(*arguments, **gateway.env(user))
        out, err = process.communicate(timeout=400)
        return process.returncode, out + err

    return run


@pytest.fixture(scope="module")
def trained(run: Condgen) -> str:
    changes = [word for setting in TINY for word in ("--set", setting)]
    places = ["--data", f"s3://{BUCKET}/dataset", "--out", f"s3://{BUCKET}/runs/first"]
    code, told = run("train", "train", "--preset", "regression-small", *places, *changes, "--gpus-per-worker", "0")
    assert code == 0, told
    return f"s3://{BUCKET}/runs/first"


@pytest.fixture(scope="module")
def colorized(run: Condgen, trained: str) -> str:
    code, told = run("batch", "colorize", f"s3://{BUCKET}/archive", f"s3://{BUCKET}/results", "--model", trained)
    assert code == 0, told
    return f"s3://{BUCKET}/results"


def test_training_needs_no_more_than_its_policy(gateway: Gateway, trained: str) -> None:
    status = json.loads(gateway.store("owner", "runs/first").read("status.json"))
    assert (status["state"], status["step"]) == ("done", 6)


def test_the_batch_job_needs_no_more_than_its_policy(gateway: Gateway, colorized: str) -> None:
    assert [entry.name for entry in gateway.store("owner", "results").list() if entry.name.endswith(".parquet")]


def test_a_reader_needs_no_more_than_its_policy(colorized: str, run: Condgen, tmp_path: Path) -> None:
    code, told = run("reader", "report", colorized, "--out", str(tmp_path / "report.html"))
    assert code == 0, told
    code, told = run("reader", "extract", colorized, str(tmp_path / "draws"))
    assert code == 0, told
    assert len(list((tmp_path / "draws").rglob("*.*"))) >= 3


def test_a_large_object_goes_up_in_parts_and_parts_can_be_given_up(gateway: Gateway) -> None:
    store = gateway.store("train", "runs/first")
    store.write("large.bin", bytes(51 << 20))
    assert store.size("large.bin") == 51 << 20
    store.delete("large.bin")
    client, place = gateway.client("train"), {"Bucket": BUCKET, "Key": "runs/first/large.bin"}
    upload = client.create_multipart_upload(**place)["UploadId"]
    client.abort_multipart_upload(**place, UploadId=upload)


def test_what_is_not_there_is_missing_and_not_refused(gateway: Gateway) -> None:
    store = gateway.store("train", "runs/first")
    assert not store.exists("nothing.json")
    assert not store.is_file("checkpoints")
    with pytest.raises(MissingError):
        store.read("nothing.json")
    with pytest.raises(MissingError):
        gateway.store("train", "dataset/none").require()
    gateway.store("train", "dataset").require()


ELSEWHERE = ["other", "dataset2", "runs/second", "results-of-others", ""]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("prefix", ELSEWHERE)
def test_all_else_is_refused(gateway: Gateway, user: str, prefix: str) -> None:
    store = gateway.store(user, prefix)
    for operation in (
        lambda: store.read("kept.txt"),
        lambda: store.write("kept.txt", b"mine"),
        lambda: store.create("new.txt", b"mine"),
        lambda: store.delete("kept.txt"),
        lambda: store.list(),
    ):
        with pytest.raises(AccessError):
            operation()


@pytest.mark.parametrize(
    ("user", "prefix"),
    [("train", "dataset"), ("train", "results"), ("batch", "archive"), ("batch", "runs/first"), ("reader", "results")],
)
def test_what_is_read_is_not_written(gateway: Gateway, user: str, prefix: str) -> None:
    store = gateway.store(user, prefix)
    for operation in (lambda: store.write("x", b""), lambda: store.create("x", b""), lambda: store.delete("x")):
        with pytest.raises(AccessError):
            operation()


def test_a_list_of_the_whole_bucket_is_refused_in_every_spelling(gateway: Gateway) -> None:
    from botocore.exceptions import ClientError

    client = gateway.client("train")
    for prefix in ({}, {"Prefix": ""}, {"Prefix": "d"}, {"Prefix": "dataset"}, {"Prefix": "runs/"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.list_objects_v2(Bucket=BUCKET, **prefix)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_bucket_policy(Bucket=BUCKET, Policy=(POLICIES / "bucket.json").read_text())
