"""The commands about models themselves: ``export`` and ``models``."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.datasets import examples

__all__ = ["add_model_commands"]


def add_model_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        short_help="A trained model as a torch.export program.",
        epilog=examples(
            "condgen export runs/first first.pt2",
            "condgen export colorizer point.pt2 --point",
            "condgen translate photos/ results/ --model first.pt2 --trust-code",
        ),
    )(export)
    app.command(short_help="The shipped models, the families and the presets.", epilog=examples("condgen models"))(
        models
    )


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The shipped colorizer, a run of condgen train, or a checkpoint.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT.pt2", help="The file that is written, a path or URI.")],
    point: Annotated[bool, typer.Option("--point", help="The point prediction in place of draws.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps of the sampler (default: the model's own).")
    ] = None,
) -> None:
    """Write a trained model as one torch.export program, which any PyTorch runs without condgen.

    A program of draws takes the noise as its second input. The program is compared with the model before it is written.
    """
    from jobs.export import run

    for line in run(model, out, point=point, steps=steps):
        typer.echo(line)


def models() -> None:
    """List the models that ship with condgen, the families and the presets."""
    from condgen.families import FAMILIES
    from condgen.presets import PRESETS
    from condgen.pretrained import PRETRAINED

    width = max(len(name) for name in (*PRETRAINED, *FAMILIES, *PRESETS))
    typer.echo("Models (condgen colorize PHOTOS RESULTS --model NAME)")
    for name, summary in PRETRAINED.items():
        typer.echo(f"  {name:<{width}}  {summary}")
    typer.echo("\nFamilies")
    for family in FAMILIES.values():
        typer.echo(f"  {family.name:<{width}}  {family.summary}")
    typer.echo("\nPresets (condgen train --preset NAME --data ... --out ... --dry-run shows all fields)")
    for preset in PRESETS.values():
        typer.echo(f"  {preset.name:<{width}}  {preset.family}: {preset.summary}")
