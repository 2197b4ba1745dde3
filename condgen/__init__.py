"""condgen: conditional image models at archive scale. Tensors in, tensors out; PyTorch alone.

errors.py       every error that is raised on purpose
base.py         what a model family implements: ``ConditionalModel``, and what goes in and out of it
options.py      how a model draws: ``SampleOptions``
noise.py        randomness that belongs to a sample and a draw; device_noise.py makes it on a device
device_stream.py a stream of a thread's own on a GPU
statistics.py   what a training set tells its model before the first step
families/       the model families, a folder each, and the table of them
presets.py      named, complete configurations; ``preset_parts.py`` says what they consist of
checkpoint.py   a model as two small files; ``checkpoint_files.py`` has their names
training.py     one training step of any family
memory.py       an estimate of the memory that training takes
precision.py    the number format in which a model runs
color/          L*a*b*, bins of ab, color at an image's own size
diffusion/      paths and samplers
gan/            what adversarial families share
nn/             networks that families are built from
metrics/        how good images are
worlds/         generated worlds whose true p(y | x) is known
pretrained/     the models that ship with condgen
checks.py       checks of configuration fields
version.py      the version

Importing this package, ``condgen.errors``, ``condgen.families``, ``condgen.presets`` or a configuration imports neither
torch nor ray.
"""

import lazy_loader

from condgen.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
