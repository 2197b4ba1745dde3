"""Color: L*a*b*, bins of ab, and color at an image's own size.

lab.py           sRGB and L*a*b* as tensor functions, and the scales in which models see them
ab_bins.py       the grid of ab in gamut as bins of a categorical model
uniform_bins.py  uniform levels as bins, for other y than color
colorize.py      fitting an image into a model's square, and putting ab on the original's own L
guide.py         how ab follows the original's edges when it is upsampled

Loops over pixels are in ``_paint`` and ``_lines``, which numba compiles when they are first called (``_compile``).
``_device_paint`` has those of ``_paint`` for a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
