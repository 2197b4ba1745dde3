"""Models of any origin, and how images go through them.

source.py               where a model comes from, by name: a trained run, a user's class, a program file
import_path.py          a look at an import path without importing it
user.py                 a user's own module as a conditional model
options.py              options of colorization and of translation
task.py                 what a model needs of an image, and gives back: `ImageTask`
colorization.py         predicted color onto an image's own lightness
translation.py          from image to image, in tiles
hooks.py                the user's own functions before and after the model
pretrained_weights.py   ImageNet weights that are installed or named
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.models.hooks import About, Functions
    from pipelines.models.options import ColorizeOptions, TranslateOptions
    from pipelines.models.source import LoadedModel, ModelSource, image_task, load_model, open_model
    from pipelines.models.task import ImageTask, Rgb
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "hooks": ["About", "Functions"],
            "options": ["ColorizeOptions", "TranslateOptions"],
            "source": ["LoadedModel", "ModelSource", "load_model", "open_model", "image_task"],
            "task": ["ImageTask", "Rgb"],
        },
    )

__all__ = [
    "About",
    "ColorizeOptions",
    "Functions",
    "ImageTask",
    "LoadedModel",
    "ModelSource",
    "Rgb",
    "TranslateOptions",
    "image_task",
    "load_model",
    "open_model",
]
