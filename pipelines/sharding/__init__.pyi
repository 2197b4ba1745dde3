from .options import ShardOptions as ShardOptions
from .recipe import Recipe as Recipe
from .sources import Listing as Listing
from .sources import Record as Record
from .sources import folder_source as folder_source
from .sources import halves_source as halves_source
from .sources import pairs_source as pairs_source
from .tables import table_source as table_source
