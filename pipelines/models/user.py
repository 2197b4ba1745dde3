"""Models that are the user's own: a class or function named by its import path, or a program file.

`docs/own-models.md` tells the protocol. A `condgen.base.ConditionalModel` is taken as it is; any other
`torch.nn.Module` from image to image is wrapped in an `ImageModule`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from condgen.base import Batch, Condition, ConditionalModel, SampleOptions
from condgen.errors import CheckpointError, CondgenError, ConfigError, UnsupportedError, nearest
from condgen.noise import NoiseSource
from pipelines.cluster.imports import extend_import_path

__all__ = [
    "PROGRAM_FACTS",
    "ImageModule",
    "ModuleFacts",
    "NoisyImageModule",
    "check_output",
    "digest_of",
    "import_model",
    "load_program",
    "wrap",
]

PROGRAM_FACTS = "condgen.json"
"""Name of the extra file in a program that holds its attributes (size_px, task, ...) as JSON."""

_CHANNELS: Mapping[str, tuple[int, tuple[int, ...]]] = {"image": (3, (1, 3)), "color": (1, (2,))}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFacts:
    """The attributes by which a module describes itself.

    Attributes:
        size_px: S, side of the square that it takes.
        task: `image`, from `[B, 3, S, S]` to `[B, 3 or 1, S, S]`; or `color`, from L / 50 - 1, `[B, 1, S, S]`, to
            ab / 110, `[B, 2, S, S]`.
        value_range: range of the images that it takes and returns, such as (0, 1); values outside are cut off. `color`
            has none.
        noise_shape: shape of one draw's standard normal noise, for modules with `forward(x, noise)`.
    """

    size_px: int
    task: str = "image"
    value_range: tuple[float, float] = (-1.0, 1.0)
    noise_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if type(self.size_px) is not int or self.size_px < 1:
            raise ConfigError("model.size_px", self.size_px, "a whole number >= 1: the side of the square it takes")
        if self.task not in _CHANNELS:
            raise ConfigError("model.task", self.task, f"one of {', '.join(_CHANNELS)}")
        if not self.value_range[0] < self.value_range[1]:
            raise ConfigError("model.value_range", self.value_range, "(low, high) with low < high")
        if self.task == "color" and self.value_range != (-1.0, 1.0):
            raise ConfigError("model.value_range", self.value_range, "none for task 'color': it gives ab / 110")

    @classmethod
    def of(cls, source: object) -> ModuleFacts:
        """Read them from the attributes of a module, or the items of a mapping.

        Raises:
            ConfigError: there is no size_px, or a value is not allowed.
        """
        values: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
            if value is not None:
                values[name] = tuple(value) if isinstance(value, (list, tuple)) else value
        if "size_px" not in values:
            raise ConfigError("model.size_px", None, "an attribute of the model: the side of the square that it takes")
        bounds: Any = values.get("value_range", (-1, 1))
        if not isinstance(bounds, tuple) or len(bounds) != 2:
            raise ConfigError("model.value_range", bounds, "(low, high) with low < high")
        return cls(**values)


class ImageModule(ConditionalModel):
    """A plain module from image to image as a conditional model without noise: its one output is the point.

    It is not trained here, and `type(model)(model.config)` does not build its like.
    """

    family: ClassVar[str] = "user"
    is_stochastic: ClassVar[bool] = False
    config: ModuleFacts

    def __init__(self, module: nn.Module, facts: ModuleFacts) -> None:
        super().__init__(facts)
        self.module = module

    def forward(self, batch: Batch, phase: str = "model") -> dict[str, Tensor]:  # noqa: ARG002
        """Refuse.

        Raises:
            UnsupportedError: always; a user's module has no loss.
        """
        raise UnsupportedError("a user's module is not trained here: write a ConditionalModel for that")

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, `[B, 1, C, S, S]` float32: in [-1, 1] for images, ab / 110 for color.

        Raises:
            UnsupportedError: more than one draw, a direction back, or a condition of other channels.
            ConfigError: what the module gives is not of the shape that its task says.
        """
        self.require_direction(options.direction)
        if noise.num_draws > 1:
            raise UnsupportedError(
                f"the model has no noise, so its {noise.num_draws} draws would be copies: ask for 1 draw, or give it "
                "noise_shape and forward(x, noise)"
            )
        x = self._input(condition)
        return self._output(self.module(x), x)[:, None]

    def _input(self, condition: Condition) -> Tensor:
        image, channels = condition.image, _CHANNELS[self.config.task][0]
        if image is None or image.ndim != 4 or image.shape[1] != channels:
            raise UnsupportedError(f"the model takes images [B, {channels}, S, S], and the condition has none")
        low, high = self.config.value_range
        return image if (low, high) == (-1.0, 1.0) else (image + 1) * ((high - low) / 2) + low

    def _output(self, y: object, x: Tensor) -> Tensor:
        channels = _CHANNELS[self.config.task][1]
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        fits = isinstance(y, Tensor) and y.ndim == 4 and y.shape[1] in channels
        if not fits or (y.shape[0], *y.shape[2:]) != (x.shape[0], *x.shape[2:]):  # type: ignore[attr-defined]
            wanted = " or ".join(str((x.shape[0], count, *x.shape[2:])) for count in channels)
            raise ConfigError("model's output", shape, f"{wanted} for an input of {tuple(x.shape)}")
        low, high = self.config.value_range
        out = cast("Tensor", y).float()
        return out if (low, high) == (-1.0, 1.0) else (out - low) * (2 / (high - low)) - 1


class NoisyImageModule(ImageModule):
    """A module with `forward(x, noise)`: draw k has noise of its own, scaled by the temperature; a point has zeros."""

    is_stochastic: ClassVar[bool] = True

    @torch.no_grad()
    def sample(self, condition: Condition, noise: NoiseSource, options: SampleOptions) -> Tensor:
        """Return y, `[B, K, C, S, S]` float32, from a pass of the module a draw.

        Raises:
            As `ImageModule.sample`, for any number of draws.
        """
        self.require_direction(options.direction)
        x = self._input(condition)
        scale = options.temperature if options.mode == "draw" else 0.0
        z = noise.normal(cast("tuple[int, ...]", self.config.noise_shape)).to(x.device) * scale
        return torch.stack([self._output(self.module(x, z[:, k]), x) for k in range(noise.num_draws)], dim=1)


def wrap(module: nn.Module, facts: ModuleFacts | None = None) -> ConditionalModel:
    """Return a user's module as a conditional model, in `eval()` mode.

    Raises:
        ConfigError: an attribute is missing or wrong.
    """
    if not isinstance(module, ConditionalModel):
        facts = facts or ModuleFacts.of(module)
        module = (ImageModule if facts.noise_shape is None else NoisyImageModule)(module, facts)
    module.eval()
    return module


def import_model(path: str, import_from: Sequence[str] = ()) -> ConditionalModel:
    """Import `package.module:name` and make its model: a class or function is called without arguments.

    A model with random first weights has the same ones in every process: torch is seeded while it is made.

    Args:
        path: import path, as the user wrote it.
        import_from: folders that are added at the end of the import path, after all that is installed.

    Raises:
        ConfigError: there is nothing of that name, it can't be imported or made, or it is no model.
    """
    extend_import_path(import_from)
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        where = f" (the working directory {import_from[0]} was looked in too)" if import_from else ""
        raise ConfigError("model", path, f"a module that can be imported, but {reason}{where}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, [known for known in vars(found) if not known.startswith("_")])
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError("model", path, f"a name that {module_name} has{hint}")
        found = getattr(found, part)
    model = wrap(_make(path, found))
    missing = [attribute for attribute in ("family", "is_stochastic") if not hasattr(model, attribute)]
    if missing:
        raise ConfigError("model", path, f"a ConditionalModel that says its {' and '.join(missing)}")
    return model


def _make(path: str, found: Any) -> nn.Module:
    made = found
    if not isinstance(found, nn.Module):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                made = found()
        except CondgenError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError("model", path, f"what can be called without arguments, but {reason}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError("model", path, f"a class of torch.nn.Module or a function that returns one, not {type(made)}")
    return made


def digest_of(model: ConditionalModel, path: str) -> str:
    """Return the SHA-256 of an imported model: import path, its modules' source code, attributes and weights.

    What the source imports in turn is not part of it.
    """
    whole = hashlib.sha256(f"condgen-user-model-1 {path}\n".encode())
    inner = model.module if isinstance(model, ImageModule) else model
    modules = {sys.modules.get(path.partition(":")[0]), inspect.getmodule(type(inner))}
    for module in sorted((module for module in modules if module is not None), key=lambda module: module.__name__):
        try:
            source = inspect.getsource(module)
        except (OSError, TypeError):
            source = ""
        whole.update(f"{module.__name__} {len(source)}\n{source}".encode())
    if isinstance(model, ImageModule):
        whole.update(json.dumps(asdict(model.config), sort_keys=True).encode())
    for name, value in sorted(inner.state_dict().items()):
        if isinstance(value, Tensor):
            whole.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            whole.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


class _Program(nn.Module):
    """An exported program as a module: those refuse `train()` and `eval()`, which mean nothing to them."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, *inputs: Tensor) -> Any:
        return self.program(*inputs)

    def train(self, mode: bool = True) -> _Program:
        self.training = mode
        return self


def _torchscript(data: bytes, extra: dict[str, str]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would have new programs made by torch.export
        module = torch.jit.load(io.BytesIO(data), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    return cast("nn.Module", module)


def load_program(name: str, data: bytes) -> ConditionalModel:
    """Return the model in a TorchScript file (`.pt`) or a `torch.export` file (`.pt2`). Loading it runs its code.

    Its attributes are read from its extra file `condgen.json`, or for TorchScript from the module too.

    Raises:
        CheckpointError: it is no such file.
        ConfigError: an attribute is missing or wrong.
    """
    extra = {PROGRAM_FACTS: ""}
    try:
        if name.endswith(".pt2"):
            module: nn.Module = _Program(torch.export.load(io.BytesIO(data), extra_files=extra).module())
        else:
            module = _torchscript(data, extra)
    except Exception as error:
        what = "torch.export program" if name.endswith(".pt2") else "TorchScript program"
        raise CheckpointError(
            f"{name} is no {what} that this version of torch reads; weights alone need their class: "
            "--model package.module:Class"
        ) from error
    try:
        told = json.loads(extra[PROGRAM_FACTS] or "{}")
    except ValueError as error:
        raise CheckpointError(f"{name}: its extra file {PROGRAM_FACTS} is not JSON") from error
    return wrap(module, ModuleFacts.of(told if told else module))


def check_output(model: ConditionalModel, size_px: int) -> None:
    """Run a user's module once, on three black images, so that a wrong shape is known before a job starts.

    Raises:
        ConfigError: it fails, or what it gives is not of the shape that its task says.
    """
    if not isinstance(model, ImageModule):
        return
    x = torch.full((3, _CHANNELS[model.config.task][0], size_px, size_px), -1.0)
    try:
        with torch.inference_mode():
            model.sample(Condition(image=x), NoiseSource(0, [None] * 3, [0]), SampleOptions())
    except CondgenError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise ConfigError(
            "model", reason, f"a model that takes a batch of any size, here {tuple(x.shape)}, without an error"
        ) from error
