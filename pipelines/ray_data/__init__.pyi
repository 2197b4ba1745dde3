from .counters import Tally as Tally
from .operator import Decode as Decode
from .reading import read_paired as read_paired
from .reading import read_single as read_single
from .reading import read_unpaired as read_unpaired
from .transforms import keep as keep
from .transforms import mix as mix
from .transforms import transform as transform
