"""The training engine, beside the batch engine: a preset and a dataset make a model, on Ray Train.

engine.py        ``train``: a run from its options to its report; ``describe_run`` tells what it would do
options.py       what is trained, and how; each option of the command is a field
job.py           what the driver hands to the workers, and the actor by which they talk
data.py          which presets can be trained, and how their datasets are streamed
driver.py        Ray Train's start, its share of the cluster, and the watch over it
worker.py        what each worker does, and checkpoints
loop.py          the training loop, which knows nothing of Ray or of families
feed.py          the model's batches, made of the stream's
first_model.py   the weights that a run begins with
run_folder.py    the run on disk: configuration, metrics, checkpoints, model
report.py        what the user is told
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
