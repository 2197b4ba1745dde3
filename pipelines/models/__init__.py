"""Models of any origin, and how images go through them.

source.py               where a model comes from, by name: a trained run, a user's class, a program file
import_path.py          a look at an import path without importing it
user.py                 a user's own module as a conditional model
options.py              options of colorization and of translation
task.py                 what a model needs of an image, and gives back: `ImageTask`
colorization.py         predicted color onto an image's own lightness
translation.py          from image to image, in tiles
export.py               a trained model as a ``torch.export`` program
hooks.py                the user's own functions before and after the model
pretrained_weights.py   ImageNet weights that are installed or named
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
