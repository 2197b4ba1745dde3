"""Making datasets: a source is listed, cut into a plan of shards, written, and made to grow later.

sources.py     records of folders, pairs and halves, and the reader of one image of a record
tables.py      records of a table that lists images or holds them
recipe.py      what becomes of an image: nothing, a smaller one, a half of it, another format
dedup.py       which samples are duplicates of others
assignment.py  from records to the shards that they go to, and from their receipts to a manifest
writer.py      one planned shard made into a tar
growth.py      what a dataset has already when its source is sharded again
indexing.py    the index of a shard that was made elsewhere
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.doors import lazy_names

if TYPE_CHECKING:
    from pipelines.sharding.assignment import ShardOptions
    from pipelines.sharding.recipe import Recipe
    from pipelines.sharding.sources import Listing, Record, folder_source, halves_source, pairs_source
    from pipelines.sharding.tables import table_source
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "assignment": ["ShardOptions"],
            "recipe": ["Recipe"],
            "sources": ["Listing", "Record", "folder_source", "halves_source", "pairs_source"],
            "tables": ["table_source"],
        },
    )

__all__ = [
    "Listing",
    "Recipe",
    "Record",
    "ShardOptions",
    "folder_source",
    "halves_source",
    "pairs_source",
    "table_source",
]
