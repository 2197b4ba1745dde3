"""The results of a batch job on disk, what they were planned as, and the proof that all of them are there.

settings.py     the options that decide the bytes: `BatchSettings`
plan.py         plans: chunks, model and settings, written down first
files.py        draws files, their footers, and the tables of errors
finding.py      images found by their keys
commits.py      what of the plans is committed, and what is pending
failures.py     many failures in little memory
account.py      what became of every image, from plans and footers
retrying.py     the plan that does again what failed
verification/   whether results are what their plans say
extraction/     images out of draws files, as files
names.py        the names of those files
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
