"""Models by name: a run of `condgen train` in storage, the user's own class, or a program file.

Naming one imports no torch; loading it does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from condgen.checkpoint_files import FILES
from condgen.checks import check_choice
from condgen.errors import CheckpointError, CondgenError, ConfigError, MissingError
from condgen.families import FAMILIES
from condgen.pretrained import PRETRAINED, read_pretrained
from pipelines.models.import_path import check_import_path
from pipelines.models.options import AUTO, TaskOptions, TranslateOptions
from pipelines.storage.store import Store, open_store

if TYPE_CHECKING:
    import torch

    from condgen.base import ConditionalModel
    from pipelines.models.task import ImageTask

__all__ = [
    "ImportedModel",
    "Kind",
    "LoadedModel",
    "ModelSource",
    "PackagedModel",
    "ProgramFile",
    "StoredModel",
    "image_task",
    "is_import_path",
    "kind_of",
    "load_model",
    "open_model",
    "read_model",
    "require_encoder",
    "require_gpu",
]

Kind: TypeAlias = Literal["colorize", "translate"]
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PROGRAMS = {".pt": "a TorchScript program", ".pt2": "a torch.export program"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model, the digest of all that makes it, and what was saved beside its weights (preset, size, training state).

    `extra` has `size_px` and, where the model's maker said it, `task` (`color` or `image`).
    """

    model: ConditionalModel
    digest: str
    extra: dict[str, Any]


class ModelSource(Protocol):
    """The place that a model comes from: plain data, which travels to workers."""

    @property
    def uri(self) -> str:
        """The place as people know it, without credentials."""

    def load(self, expect_digest: str | None = None) -> LoadedModel:
        """Load the model, on the CPU in `eval()` mode.

        Args:
            expect_digest: digest in the plan, in a worker; None in the driver, which also tries a user's model once.

        Raises:
            CheckpointError: it is damaged, or another than the plan was made with.
            ConfigError: it is no model of the documented form.
            MissingError, AccessError: the place can't be read.
        """


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that ships with condgen, by its name: every node has it in its own installation."""

    name: str

    @property
    def uri(self) -> str:
        """The name."""
        return self.name

    def load(self, expect_digest: str | None = None) -> LoadedModel:
        """See `ModelSource.load`."""
        return _loaded(self.uri, read_pretrained(self.name), expect_digest)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A run of `condgen train`, or a checkpoint's folder; loading it runs no code from it."""

    store: Store

    @property
    def uri(self) -> str:
        """The URI of the folder or prefix."""
        return self.store.uri

    def load(self, expect_digest: str | None = None) -> LoadedModel:
        """See `ModelSource.load`."""
        return load_model(self.store, expect_digest=expect_digest)


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """The user's own class or function, `package.module:name`.

    Attributes:
        path: the import path.
        import_from: folders that are looked in after all that is installed: the driver's working directory. On a
            cluster, every node must have the module there or installed.
    """

    path: str
    import_from: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The import path."""
        return self.path

    def load(self, expect_digest: str | None = None) -> LoadedModel:
        """See `ModelSource.load`."""
        from pipelines.models.user import digest_of, import_model

        model = import_model(self.path, self.import_from)
        return _users(self.path, model, digest_of(model, self.path), expect_digest)


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """A TorchScript or `torch.export` file, whose code is run."""

    folder: Store
    name: str

    @property
    def uri(self) -> str:
        """The URI of the file."""
        return f"{self.folder.uri}/{self.name}"

    def load(self, expect_digest: str | None = None) -> LoadedModel:
        """See `ModelSource.load`."""
        from pipelines.models.user import load_program

        data = self.folder.read(self.name)
        digest = hashlib.sha256(data).hexdigest()
        _expect(self.uri, digest, expect_digest)
        return _users(self.uri, load_program(self.name, data), digest, expect_digest)


def _expect(uri: str, digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise CheckpointError(f"{uri} holds another model than the plan was made with: run the job again")


def _users(uri: str, model: ConditionalModel, digest: str, expect_digest: str | None) -> LoadedModel:
    """Return a user's model, with what its attributes say in `extra`."""
    _expect(uri, digest, expect_digest)
    told = {name: getattr(model, name, getattr(model.config, name, None)) for name in ("size_px", "task")}
    loaded = LoadedModel(model=model, digest=digest, extra={name: value for name, value in told.items() if value})
    if expect_digest is None:
        from pipelines.models.user import check_output

        check_output(model, _size_px(loaded))
    return loaded


def is_import_path(model: str) -> bool:
    """Return whether a model's name is `package.module:Class`, rather than a path or URI."""
    return _IMPORT_PATH.fullmatch(model) is not None


def open_model(model: str, *, trust_code: bool = False) -> ModelSource:
    """Return the place that a model is to be loaded from; no code of it is run.

    Nothing of it is loaded yet, but what can be seen to be wrong is told: no such module, name, file or checkpoint.

    Args:
        model: the name of a model that ships with condgen; a folder or URI of a trained model (a folder of a shipped
            model's name is `./colorizer`); `package.module:Class`; or a file or URI ending in `.pt` or `.pt2`.
        trust_code: whether the code of a program file may be run (a class that the user names is the user's own).

    Raises:
        CheckpointError: the place holds no model.
        ConfigError: a program file without `trust_code`; an import path that leads nowhere.
        MissingError: the place is not there.
    """
    if model in PRETRAINED:
        return PackagedModel(model)
    if is_import_path(model):
        check_import_path(model, (str(Path.cwd()),))
        return ImportedModel(model, (str(Path.cwd()),))
    what = next((text for suffix, text in _PROGRAMS.items() if model.endswith(suffix)), None)
    if what is None:
        store = open_store(model).require()
        _find_files(store)
        return StoredModel(store)
    if not trust_code:
        raise ConfigError(
            "model", model, f"data alone: this is {what}, whose code would be run; --trust-code if you trust its maker"
        )
    folder, _, name = model.rpartition("/")
    store = open_store(folder or ("/" if model.startswith("/") else ".")).require()
    store.size(name)
    return ProgramFile(store, name)


def read_model(store: Store) -> dict[str, bytes]:
    """Return the files of a model: those at the root of a finished run or checkpoint, else of the newest checkpoint.

    Raises:
        CheckpointError: there is no model.
        MissingError, AccessError: the place can't be read.
    """
    return {name.rpartition("/")[2]: store.read(name) for name in _find_files(store)}


def _find_files(store: Store) -> list[str]:
    """Return the names of a model's files, see `read_model`."""
    names = {entry.name for entry in store.list()}
    folders = sorted({name.rpartition("/")[0] for name in names if name.endswith("/complete.json")}, reverse=True)
    for folder in ["", *folders]:
        files = [f"{folder}/{file}" if folder else file for file in FILES]
        if names.issuperset(files):
            return files
    if not names:
        raise MissingError(store.uri, "read the model in", "there is nothing there")
    raise CheckpointError(f"{store.uri} has no {' and '.join(FILES)}: name the folder of a run of `condgen train`")


def load_model(store: Store, *, expect_digest: str | None = None) -> LoadedModel:
    """Load a trained model.

    Raises:
        CheckpointError: it is damaged, or (with `expect_digest`) another than the plan was made with.
    """
    return _loaded(store.uri, read_model(store), expect_digest)


def _loaded(uri: str, files: Mapping[str, bytes], expect_digest: str | None) -> LoadedModel:
    from condgen import checkpoint

    digest = checkpoint.digest(files)
    _expect(uri, digest, expect_digest)
    model, extra = checkpoint.load(files)
    return LoadedModel(model=model, digest=digest, extra=dict(extra))


def image_task(loaded: LoadedModel, options: TaskOptions) -> ImageTask[Any]:
    """Return how images go into a model and come out again.

    Args:
        loaded: the model.
        options: `ColorizeOptions` put predicted color onto an image's own lightness; `TranslateOptions` are for a model
            from image to image. An upsampling that is left open is guided.

    Raises:
        ConfigError: the model is of the other kind, its size is not known, or an option is not allowed; or colors are
            to be put onto images on a GPU, and there is none.
    """
    size_px, task = _size_px(loaded), _task(loaded)
    if isinstance(options, TranslateOptions):
        from pipelines.models.translation import TranslateTask

        if task == "color":
            raise ConfigError("model", loaded.model.family, "a model from image to image; for color: condgen colorize")
        return TranslateTask(size_px, large=options.large, overlap_px=options.overlap_px)
    if task != "color":
        raise ConfigError("model", loaded.model.family, "a model of color; for image to image: condgen translate")
    from pipelines.models.colorization import ColorizeTask

    upsampling = "guided" if options.upsampling == AUTO else options.upsampling
    device = require_gpu("colors_on") if options.colors_on == "gpu" else None
    stride = _stride(loaded.model)
    return ColorizeTask(size_px, options.chroma, upsampling=upsampling, stride=stride, device=device)


def require_gpu(option: str) -> torch.device:
    """Return this process's GPU, which an option asks for.

    Raises:
        ConfigError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(option, "gpu", "cpu: torch sees no GPU here")
    return torch.device("cuda")


def require_encoder(option: str) -> torch.device:
    """Return this process's GPU, which an option has encode JPEGs, and get it ready.

    Raises:
        ConfigError: there is none, or torchvision has no encoder for it.
    """
    device = require_gpu(option)
    try:
        from pipelines.images.device_jpeg import prepare

        prepare(device)
    except (ImportError, AttributeError, CondgenError) as error:
        raise ConfigError(option, "gpu", f"cpu: a trial on the GPU failed ({error})") from error
    return device


def kind_of(loaded: LoadedModel) -> Kind:
    """Return which kind of job a model is for."""
    return "colorize" if _task(loaded) == "color" else "translate"


def _size_px(loaded: LoadedModel) -> int:
    size_px = loaded.extra.get("size_px")
    if not isinstance(size_px, int) or size_px < 1:
        raise ConfigError(
            "model.size_px", size_px, "the side of the square that the model takes, as `condgen train` saves it"
        )
    return size_px


def _stride(model: ConditionalModel) -> int:
    """Return the pixels of the square to each value that a model predicts: its configuration's `out_stride`, or 1."""
    stride = getattr(model.config, "out_stride", 1)
    return stride if isinstance(stride, int) and stride >= 1 else 1


def _task(loaded: LoadedModel) -> str:
    """Return `color` or `image`: as the model says, else by its family and the channels that it takes and gives."""
    told = loaded.extra.get("task", getattr(loaded.model, "task", None))
    if told is not None:
        check_choice("model.task", told, ("color", "image"))
        return str(told)
    family, config = FAMILIES.get(loaded.model.family), loaded.model.config
    if family is None:
        raise ConfigError("model.task", None, "an attribute of the model: color or image")
    channels = getattr(config, "condition_channels", None), getattr(config, "target_channels", 2)
    return "color" if family.task == "colorize" and channels == (1, 2) else "image"
