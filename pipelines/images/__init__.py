"""Encoded images to sRGB arrays and back, with the metadata of photographs.

decoding.py     ``decode`` and ``probe``: the bytes of a file as a viewer shows them, or an ``ImageError``
partial.py      ``decode_partly``: the part of a damaged image that can be shown
encoding.py     ``encode``: an array as JPEG, PNG, WebP or TIFF
device_jpeg.py  JPEGs by torchvision, on a GPU
metadata.py     ``read_metadata``: the part of a photograph's metadata that is kept
formats.py      the formats that are read, how each is opened, and errors that always read the same
signatures.py   the format that a file's first bytes and its brands tell
sheet.py        many images in cells, as one PNG
jpeg.py         JPEGs, straight into an array, and whether their data is whole
jpegxl.py       JPEG XL
heif.py         HEIC
boxes.py        boxes and items of HEIC and AVIF
png.py          chunks of PNG files
tiff_pages.py   the full image of a TIFF
tiff_samples.py TIFFs of signed, float and other samples
libtiff.py      the libtiff that Pillow uses: silent, and asked what it decompresses
high_depth.py   more than 8 bits a channel
color_tags.py   what a file tells of its colors
color_spaces.py primaries and transfer functions to sRGB
icc.py          color profiles, transparency and 16 bits to sRGB
exif.py         EXIF blocks, entry by entry
srgb.icc        the ICC profile of sRGB
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
