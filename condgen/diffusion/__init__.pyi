from .config import SAMPLER_NAMES as SAMPLER_NAMES
from .config import PathConfig as PathConfig
from .paths import PARAMETRIZATIONS as PARAMETRIZATIONS
from .paths import Parametrization as Parametrization
from .paths import Path as Path
from .samplers import SAMPLERS as SAMPLERS
from .samplers import Sampler as Sampler
from .samplers import find_sampler as find_sampler
