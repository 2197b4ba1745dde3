from .backend import Entry as Entry
from .cache import CachedStore as CachedStore
from .cache import ChunkCache as ChunkCache
from .cache import cached as cached
from .store import RetryPolicy as RetryPolicy
from .store import Store as Store
from .store import open_store as open_store
from .store import write_file as write_file
