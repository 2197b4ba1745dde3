"""Encoded images to sRGB arrays and back, with the metadata of photographs.

decoding.py     ``decode`` and ``probe``: the bytes of a file as a viewer shows them, or an ``ImageError``
encoding.py     ``encode``: an array as JPEG, PNG, WebP or TIFF
metadata.py     ``read_metadata``: the part of a photograph's metadata that is kept
formats.py      the formats that are read, how each is opened, and errors that always read the same
jpeg.py         plain JPEGs, straight into an array
png.py          chunks of PNG files
tiff_samples.py TIFFs of signed, float and other samples
high_depth.py   more than 8 bits a channel
color_tags.py   what a file tells of its colors
color_spaces.py primaries and transfer functions to sRGB
icc.py          color profiles, transparency and 16 bits to sRGB
exif.py         EXIF blocks, entry by entry
srgb.icc        the ICC profile of sRGB
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.images.decoding import ImageInfo, decode, probe
    from pipelines.images.encoding import encode
    from pipelines.images.formats import EXTENSIONS, FORMATS, MAX_PIXELS
    from pipelines.images.metadata import Metadata, read_metadata
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "decoding": ["ImageInfo", "decode", "probe"],
            "encoding": ["encode"],
            "formats": ["EXTENSIONS", "FORMATS", "MAX_PIXELS"],
            "metadata": ["Metadata", "read_metadata"],
        },
    )

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_PIXELS",
    "ImageInfo",
    "Metadata",
    "decode",
    "encode",
    "probe",
    "read_metadata",
]
