"""How a model draws. Importing this imports no torch: the command line makes its options from the fields.

A field that is made by ``option`` is an option of every command that draws. A new option is a field here, and what the
families' ``sample`` makes of it: the command line and the plan get it from here. If its default is None, a family names
it in ``sample_options`` to have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from condgen.checks import Count, NotNegative, Number, PositiveShare, check_fields

__all__ = ["SampleOptions", "option"]

T = TypeVar("T")


def option(value: T, text: str, **facts: Any) -> T:
    """Return a field of a dataclass that is an option of the command line.

    Args:
        value: default of the field.
        text: the option's help.
        facts: more of the field's metadata, such as ``metavar``, ``min`` and ``max``; ``jobs.cli.options`` lists them.
    """
    made: T = field(default=value, metadata={"help": text, **facts})
    return made


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How to draw; part of a plan's fingerprint.

    Only some families have the options whose default is None (``ConditionalModel.sample_options``).

    Attributes:
        mode: ``draw`` samples p(y | x); ``point`` gives the family's one best prediction, K times if asked.
        temperature: spread of the draws (> 0; 1 is the model's own distribution).
        direction: ``a2b``, or ``b2a`` back again for models that have both (``ConditionalModel.directions``).
        steps: number of steps of an iterative sampler (>= 1; None is the model's own).
        guidance_scale: scale of classifier-free guidance (>= 0; 1 is none, 0 leaves the condition out, None is the
            model's own).
        sampler: name of an iterative sampler (one of ``ConditionalModel.samplers``; None is the model's own).
        top_k: number of likeliest values among which each token is drawn (>= 1; None is all of them).
        top_p: probability that the likeliest values hold among which each token is drawn (> 0 and <= 1; None is all
            of them).

    Raises:
        ConfigError: a value is not allowed.
    """

    mode: Literal["draw", "point"] = "draw"
    temperature: Annotated[float, Number("> 0")] = option(1.0, "Below 1 the draws are tamer, above 1 wilder.", min=0.0)
    direction: Literal["a2b", "b2a"] = option(
        "a2b", "Direction of a model that goes both ways: a2b or b2a.", metavar="D"
    )
    steps: Count | None = option(None, "Steps of diffusion's sampler (default: the model's).", metavar="N", min=1)
    guidance_scale: NotNegative | None = option(
        None, "Diffusion: above 1 draws keep closer to the condition.", metavar="S", min=0.0
    )
    sampler: str | None = option(
        None, "Diffusion's sampler: heun, euler, ddim, ddpm, dpm-solver++ or adams-bashforth.", metavar="NAME"
    )
    top_k: Count | None = option(None, "Autoregressive: draw among the N likeliest.", metavar="N", min=1)
    top_p: PositiveShare | None = option(
        None, "Autoregressive: draw among the likeliest values that hold P.", metavar="P", min=0.0, max=1.0
    )

    def __post_init__(self) -> None:
        check_fields("sample", self)
