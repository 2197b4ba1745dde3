"""The commands that run others on a cluster, as jobs: ``submit``, ``status``, ``logs`` and ``stop``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from condgen.errors import ConfigError
from jobs.cli.datasets import examples

if TYPE_CHECKING:
    from pipelines.cluster.submission import Cluster, Submission

__all__ = ["add_cluster_commands"]

Address = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The dashboard of the cluster's head (default: $RAY_API_SERVER_ADDRESS)."),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="A job that condgen status lists.")]

_STOP_WAIT_S = 300


def add_cluster_commands(app: typer.Typer) -> None:
    """Add the commands."""
    commands: list[tuple[Callable[..., None], str, str]] = [
        (
            submit,
            "A command of condgen as a job on a cluster.",
            examples(
                "condgen submit --address http://head:8265 -- colorize s3://bucket/archive s3://bucket/results",
                "condgen submit --upload . -- train --preset pix2pix --data s3://bucket/pairs --out s3://bucket/run",
            ),
        ),
        (status, "The jobs of a cluster, or one.", examples("condgen status", "condgen status JOB")),
        (logs, "What a job has written.", examples("condgen logs JOB", "condgen logs JOB --follow")),
        (stop, "Stop a job, with a checkpoint.", examples("condgen stop JOB")),
    ]
    for command, summary, epilog in commands:
        app.command(short_help=summary, epilog=epilog)(command)


def submit(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command, without condgen.")],
    address: Address = None,
    upload: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Send the project in DIR and run that (default: the image's condgen)."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An environment variable of the job; no secrets, Ray shows it."),
    ] = None,
    stop_wait: Annotated[
        int, typer.Option(min=1, metavar="S", help="Seconds that condgen stop leaves for a checkpoint.")
    ] = _STOP_WAIT_S,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
) -> None:
    """Run a command of condgen as a job on a cluster, and follow its log to the end.

    The same command again follows the job that runs it already. Ctrl-C leaves the job alone. The exit code is the
    command's own: 75 says that it was interrupted and goes on when it is submitted again.
    """
    from pipelines.cluster.submission import shell_command

    variables = dict(_assignment(one) for one in env or ())
    variables["RAY_JOB_STOP_WAIT_TIME_S"] = str(stop_wait)
    runtime_env: dict[str, object] = {"env_vars": variables}
    if upload:
        runtime_env |= {"working_dir": upload, "excludes": [".git", ".venv*", "*.tar", "*.parquet"]}
    program = "python -m jobs" if upload else "condgen"
    cluster = _cluster(address)
    job, is_new = cluster.submit(command, entrypoint=shell_command(command, program=program), runtime_env=runtime_env)
    typer.echo(f"{'submitted' if is_new else 'runs already'}: {job.name}", err=True)
    if not detach:
        _follow(cluster, job.name)


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job (default: all of condgen's).")] = None,
    address: Address = None,
) -> None:
    """List the jobs that condgen submit has run on a cluster, or tell how one stands."""
    import json
    import shlex

    from jobs.submission import exit_code, run_status

    cluster = _cluster(address)
    if job is None:
        for one in cluster.jobs():
            since = f"{one.started:%Y-%m-%d %H:%M} UTC" if one.started else "not yet"
            typer.echo(f"{one.name}  {_state(one):<12}  {since}  condgen {shlex.join(one.command)}")
        return
    found = cluster.job(job)
    typer.echo(f"{found.name}: {_state(found)}")
    typer.echo(f"  condgen {shlex.join(found.command)}")
    if found.has_ended:
        typer.echo(f"  exit code {exit_code(found)}")
    if found.message and not found.code:
        typer.echo(f"  {found.message.splitlines()[0]}")
    if run := run_status(found.command):
        typer.echo(f"  status.json: {json.dumps(run)}")


def logs(
    job: Job,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="To the job's end.")] = False,
) -> None:
    """Show what a job has written; with --follow to its end, with its exit code."""
    cluster = _cluster(address)
    if follow:
        _follow(cluster, cluster.job(job).name)
    else:
        typer.echo(cluster.log(cluster.job(job).name), nl=False)


def stop(job: Job, address: Address = None) -> None:
    """Ask a job to stop, and wait until it has: training saves a checkpoint first."""
    typer.echo(f"{job}: {_state(_cluster(address).stop(job))}")


def _cluster(address: str | None) -> Cluster:
    from pipelines.cluster.submission import Cluster

    return Cluster(address, say=lambda line: typer.echo(line, err=True))


def _follow(cluster: Cluster, name: str) -> None:
    """Show a job's log to its end, and end as it did."""
    from jobs.submission import exit_code

    try:
        job = cluster.follow(name, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\n{name} goes on: condgen logs {name} --follow, condgen stop {name}", err=True)
        raise typer.Exit(130) from None
    code = exit_code(job)
    typer.echo(f"{name}: {_state(job)}, exit code {code}", err=True)
    raise typer.Exit(code)


def _state(job: Submission) -> str:
    return job.state.lower()


def _assignment(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise ConfigError("env", text, "NAME=VALUE")
    return name, value
