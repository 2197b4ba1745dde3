"""infra/aws/cluster.yaml: Ray's schema and EC2's, what Ray asks AWS for, nodes that start and leave by its commands."""

import json
import secrets
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import Host, Network, why_not
from ray_head import wait_for
from scripts import ROOT

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

AWS = ROOT / "infra" / "aws"
WORKERS = ("gpu", "cpu")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file, as `ray up` completes it."""
    from ray.autoscaler._private.util import prepare_config

    prepared: dict[str, Any] = prepare_config(yaml.safe_load((AWS / "cluster.yaml").read_text()))
    return prepared


def node(cluster: Mapping[str, Any], name: str) -> dict[str, Any]:
    config: dict[str, Any] = cluster["available_node_types"][name]["node_config"]
    return config


# --- what the file says ---


def test_ray_takes_the_file(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import validate_config

    validate_config(cluster)
    with pytest.raises(ValidationError, match="head_type"):
        validate_config(cluster | {"head_type": "head"})


def test_the_head_stays_and_workers_are_spot_machines_that_come_when_they_are_asked_for(
    cluster: dict[str, Any],
) -> None:
    head = cluster["available_node_types"]["head"]
    assert (head["resources"]["CPU"], head["resources"]["GPU"], head["max_workers"]) == (0, 0, 0)
    assert "InstanceMarketOptions" not in head["node_config"]
    for name in WORKERS:
        kind = cluster["available_node_types"][name]
        assert kind["min_workers"] == 0
        assert kind["max_workers"] > 0
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    most = sum(cluster["available_node_types"][name]["max_workers"] for name in WORKERS)
    assert cluster["max_workers"] == most
    assert not cluster["provider"]["cache_stopped_nodes"]


@pytest.mark.parametrize("name", ["head", *WORKERS])
def test_a_machine_has_a_sealed_disk_sessions_of_metadata_and_a_group_of_ours(
    cluster: dict[str, Any], name: str
) -> None:
    config = node(cluster, name)
    assert all(volume["Ebs"]["Encrypted"] is True for volume in config["BlockDeviceMappings"])
    assert config["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert config["SecurityGroupIds"]  # Ray's own would open SSH to everyone
    assert config["IamInstanceProfile"] == {"Name": "condgen-head" if name == "head" else "condgen-worker"}


@pytest.mark.parametrize("name", ["head", *WORKERS])
def test_ec2_takes_the_parameters_of_a_machine(cluster: dict[str, Any], name: str) -> None:
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    shape = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    config = node(cluster, name) | {"MinCount": 1, "MaxCount": 1}
    report = ParamValidator().validate(config, shape)
    assert not report.has_errors(), report.generate_report()
    wrong = ParamValidator().validate(config | {"MetaDataOptions": {}}, shape)
    assert "MetaDataOptions" in wrong.generate_report()


def test_the_token_travels_as_a_file_and_what_is_sent_is_there(cluster: dict[str, Any]) -> None:
    mounts = dict(cluster["file_mounts"])
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    for remote, local in mounts.items():
        assert (ROOT / local).exists()
        assert remote == f"~/condgen/{local.removeprefix('./')}"
    for command in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        assert command.startswith("source ~/condgen/infra/aws/environment.sh; ")  # RAY_AUTH_MODE=token
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]


# --- what Ray asks AWS for ---


def statements(policy: str, action: str) -> list[dict[str, Any]]:
    """The statements of a policy that allow an action."""
    found = json.loads((AWS / "policies" / f"{policy}.json").read_text())["Statement"]
    return [one for one in found if action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])]


@pytest.fixture
def account(cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The file's cluster in an account of moto's, an EC2 in this process; its ids are those of the account."""
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    region = cluster["provider"]["region"]
    with mock_aws():
        boto3.setup_default_session()
        ec2, iam = boto3.client("ec2", region_name=region), boto3.client("iam", region_name=region)
        group = ec2.create_security_group(GroupName="condgen", Description="condgen")["GroupId"]
        ec2.create_key_pair(KeyName="condgen")
        for name in ("condgen-head", "condgen-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        text = yaml.safe_dump(cluster).replace("sg-0123456789abcdef0", group)
        yield yaml.safe_load(text)
    boto3.setup_default_session()


def test_the_heads_policy_has_all_that_its_autoscaler_asks_ec2_for_and_no_more(account: dict[str, Any]) -> None:
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = bootstrap_aws(account)
    asked: dict[str, list[dict[str, Any]]] = {}

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        asked.setdefault(f"{model.service_model.service_name}:{model.name}", []).append(dict(params))

    boto3.DEFAULT_SESSION.events.register("provide-client-params.ec2.*", note)  # type: ignore[union-attr]
    from ray.autoscaler._private.aws import utils

    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name in WORKERS:
        tags = {"ray-node-type": "worker", "ray-user-node-type": name, "ray-launch-config": "0"}
        provider.create_node(node(config, name), tags, 1)
    machines = provider.non_terminated_nodes({"ray-node-type": "worker"})
    assert len(machines) == 2
    provider.set_node_tags(machines[0], {"ray-node-status": "up-to-date"})
    assert provider.external_ip(machines[0])
    provider.terminate_nodes(machines)
    policy = json.loads((AWS / "policies" / "head.json").read_text())["Statement"]
    allowed = {
        action for one in policy for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    }
    assert allowed == {*asked, "iam:PassRole"}
    for launch in asked["ec2:RunInstances"]:
        check_launch(launch)


def check_launch(launch: Mapping[str, Any]) -> None:
    """A launch meets the conditions that the head's policy has for it."""
    machine, volume, things = statements("head", "ec2:RunInstances")
    wanted = machine["Condition"]["StringEquals"]
    tags = {tag["Key"]: tag["Value"] for spec in launch["TagSpecifications"] for tag in spec["Tags"]}
    assert tags["ray-cluster-name"] == wanted["aws:RequestTag/ray-cluster-name"]
    assert tags["ray-node-type"] == wanted["aws:RequestTag/ray-node-type"]
    assert launch["InstanceType"] in wanted["ec2:InstanceType"]
    assert launch["InstanceMarketOptions"]["MarketType"] == wanted["ec2:InstanceMarketType"]
    assert launch["MetadataOptions"]["HttpTokens"] == wanted["ec2:MetadataHttpTokens"]
    profile = machine["Condition"]["ArnEquals"]["ec2:InstanceProfile"]
    assert profile.endswith(f":instance-profile/{launch['IamInstanceProfile']['Name']}")
    assert volume["Condition"] == {"Bool": {"ec2:Encrypted": "true"}}
    assert all(one["Ebs"]["Encrypted"] for one in launch["BlockDeviceMappings"])
    kinds = {"image": launch["ImageId"], "key-pair": launch["KeyName"], "subnet": "*", "network-interface": "*"}
    for kind, name in kinds.items():
        assert any(arn.endswith(f":{kind}/{name}") for arn in things["Resource"])


# --- nodes that start and leave by the file's commands ---

METADATA = """
import json, pathlib
from http.server import BaseHTTPRequestHandler, HTTPServer

class Service(BaseHTTPRequestHandler):
    def do_PUT(self):
        assert self.path == "/latest/api/token" and int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
        self.answer(200, "a-session")
    def do_GET(self):
        notice = pathlib.Path("/tmp/notice")
        if self.headers["X-aws-ec2-metadata-token"] != "a-session":
            self.answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and notice.exists():
            self.answer(200, notice.read_text())
        else:
            self.answer(404, "")
    def answer(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

HTTPServer(("169.254.169.254", 80), Service).serve_forever()
"""
NODES = """
import json, ray
ray.init(address="auto", logging_level="error")
print(json.dumps({"nodes": ray.nodes()}))
"""
RAY = ROOT / ".venv" / "bin" / "ray"
PREPARE = (
    f'mkdir -p ~/.ray && ln -s {ROOT} ~/condgen && printf %s "$TOKEN" > ~/.ray/auth_token && unset TOKEN && '
    "chmod 600 ~/.ray/auth_token"
)


class Nodes:
    """A head and a worker, each a host of its own that has started by the file's commands."""

    def __init__(self, network: Network, cluster: Mapping[str, Any], folder: Path) -> None:
        self._folder = folder
        self.env = {
            "HOME": "/tmp/home",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }
        self._token = secrets.token_hex(32)
        self.head, self.worker = network.host("head"), network.host("worker")
        kinds = cluster["available_node_types"]
        started = list(cluster["head_start_ray_commands"])
        started[-1] = started[-1].replace(" --autoscaling-config=~/ray_bootstrap_config.yaml", "")  # no AWS here
        self._boot(self.head, started, kinds["head"])
        wait_for("the head", lambda: self.nodes())
        self._boot(self.worker, cluster["worker_start_ray_commands"], kinds["cpu"], RAY_HEAD_IP=self.head.address)

    def _boot(self, host: Host, commands: list[str], kind: Mapping[str, Any], **env: str) -> None:
        told = {"RAY_OVERRIDE_RESOURCES": json.dumps(kind["resources"]), "TOKEN": self._token, **env}
        lines = [PREPARE, *(f"bash -c {shlex.quote(command)}" for command in commands), "exec sleep infinity"]
        host.boot("\n".join(lines), self.env | told, self._folder / f"{host.name}.log")

    def shell(self, host: Host, line: str) -> tuple[int, str]:
        done = host.run("bash", "-c", f"source ~/condgen/infra/aws/environment.sh; {line}", env=self.env)
        return done.returncode, done.stdout

    def nodes(self) -> list[dict[str, Any]]:
        code, told = self.shell(self.head, f"python -c {shlex.quote(NODES)}")
        found = [line for line in told.splitlines() if line.startswith('{"nodes"')]
        return json.loads(found[-1])["nodes"] if code == 0 and found else []


@pytest.fixture(scope="module")
def nodes(cluster: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    if reason := why_not():
        pytest.skip(reason)
    with Network() as network:
        nodes = Nodes(network, cluster, tmp_path_factory.mktemp("nodes"))
        wait_for("the worker", lambda: sum(one["Alive"] for one in nodes.nodes()) == 2)
        yield nodes


def test_the_head_has_no_cpus_and_a_command_runs_on_it_through_its_loopback_alone(nodes: Nodes) -> None:
    resources = {one["NodeManagerAddress"]: one["Resources"] for one in nodes.nodes() if one["Alive"]}
    assert "CPU" not in resources[nodes.head.address]
    assert resources[nodes.worker.address]["CPU"] == 16
    code, told = nodes.shell(nodes.head, "condgen submit -- validate /nowhere")
    assert (code, "could not find /nowhere" in told) == (2, True), told
    code, told = nodes.shell(nodes.worker, f"condgen status --address http://{nodes.head.address}:8265")
    assert (code, "no cluster answers" in told) == (75, True), told


def test_without_the_token_no_port_of_the_head_lets_anyone_in(nodes: Nodes) -> None:
    ask = f"ray status --address {nodes.head.address}:6379"
    assert nodes.shell(nodes.worker, ask)[0] == 0
    code, told = nodes.shell(nodes.worker, f"echo wrong > /tmp/wrong; RAY_AUTH_TOKEN_PATH=/tmp/wrong {ask}")
    assert code != 0, told
    for host in (nodes.head, nodes.worker):
        assert nodes.shell(host, "grep -rlsD skip -Ff ~/.ray/auth_token /tmp/ray ~/leave_spot.log")[1] == ""


def test_a_notice_of_aws_drains_the_worker(nodes: Nodes) -> None:
    ip = nodes.worker.run("ip", "address", "add", "169.254.169.254/32", "dev", "lo", env=nodes.env)
    assert ip.returncode == 0, ip.stdout
    server = nodes.worker.start(str(RAY.with_name("python")), "-c", METADATA, env=nodes.env)
    try:
        end = datetime.now(UTC) + timedelta(seconds=120)
        notice = json.dumps({"action": "terminate", "time": end.strftime("%Y-%m-%dT%H:%M:%SZ")})
        nodes.shell(nodes.worker, f"echo {shlex.quote(notice)} > /tmp/notice")
        log = "cat ~/leave_spot.log"
        wait_for("the notice", lambda: "Ray was told" in nodes.shell(nodes.worker, log)[1], 100)
        assert "no answer from the metadata service" in nodes.shell(nodes.worker, log)[1]  # before it was there
    finally:
        server.kill()
        server.wait()
    gone = lambda: [one for one in nodes.nodes() if not one["Alive"]]  # noqa: E731
    wait_for("the drain", gone, 60)
    assert "AWS takes this spot machine" in str(gone()[0])
