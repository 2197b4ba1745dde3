from .base import Batch as Batch
from .base import Condition as Condition
from .base import ConditionalModel as ConditionalModel
from .errors import CondgenError as CondgenError
from .errors import ConfigError as ConfigError
from .errors import UnsupportedError as UnsupportedError
from .families import FAMILIES as FAMILIES
from .families import build as build
from .families import find_family as find_family
from .noise import NoiseSource as NoiseSource
from .noise import SampleId as SampleId
from .options import SampleOptions as SampleOptions
from .presets import PRESETS as PRESETS
from .presets import find_preset as find_preset
from .pretrained import read_pretrained as read_pretrained
from .statistics import DatasetStatistics as DatasetStatistics

__version__: str
