"""Results judged against true images: measured image by image, summarized over the set, and compared.

job.py          an evaluation from its options to `evaluation.json`: `evaluate`
options.py      what is to be evaluated, and how
planning.py     what an evaluation is of: results, or a model and a dataset
survey.py       a first look at the reference set
references.py   where the true image of each answer is
sources.py      where answers come from
measures.py     one image measured
judging.py      what a model says of the true images
parts.py        fixed runs of chunks, measured by whoever is free
running.py      parts on actors, or in this process
features.py     the feature extractor of set distances
values.py       from rows of images to the numbers of a set
summary.py      every metric of every answer, with its interval
stored.py       an evaluation on disk
comparison.py   two evaluations of the same images
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
