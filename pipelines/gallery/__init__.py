"""Results of any size shown in a browser: what is shown is read from where they lie, everything else is left there.

stored_results.py   results as a list of images, any part of which is read by itself
chunk_lists.py      the chunks of a plan, a row group at a time
draws_files.py      draws files, a row group at a time
archive_images.py   the archive's own images
renditions.py       thumbnails and full images, as a browser takes them
image_index.py      an index in SQLite: search, filters, orders
filler.py           what fills it, beside the server
evaluation_rows.py  the values of an evaluation
measuring.py        values that are measured without one
columns.py          columns, and filters by them
items.py            an image as JSON
gallery.py          one or two results: what the page asks for
access.py           who may ask: the token, the host's names
app.py              the server
memory.py           what is kept in memory
side_by_side.py     calls in threads
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
