"""One store for a local folder, a prefix in a bucket, or whatever else fsspec can address.

store.py           ``Store``: atomic writes, complete reads, retries, three errors; ``open_store`` opens one
object_names.py    names that are no text as text, and the objects of URIs
trouble.py         what a failure means: whom it concerns, and whether another try may help
neighbors.py       one object's trouble told from that of a storage that is out
backend.py         what a store talks to, and ``Entry``, which a listing consists of
local.py           a local folder as a backend
s3.py, http.py     S3 and web servers as backends
s3_client.py       requests to S3
remote.py          every other scheme as a backend, through fsspec
parquet.py         Parquet files by row groups, in memory of Arrow's own
cache.py           a cache of remote chunks on a local disk
package_files.py   files of installed packages
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
