"""The batch job: an archive, a model, and several draws of each image into Parquet, every image accounted for.

job.py         the job: `BatchJob`, and `run_batch`, which does it or what is left of it
archive.py     what a job reads, as a table of chunks
probe.py       a look at the model before the plan is frozen
rounds.py      pending chunks handed to workers, with patience
worker.py      what a worker does, and what all kinds of workers have in common
ray_workers.py    workers that are Ray's actors
local_workers.py  workers that are processes of this machine, without Ray
pool_shape.py  Ray or not, how many workers, what each takes, and the wait for nodes that are still to come
engine.py      what is done with a chunk
isolation.py   images that end a process, tried alone in one of their own
attempts.py    marks of chunks that were begun
metrics.py     counters and gauges for Prometheus
report.py      pace and report of a job, and run.json
outcome.py     what share of a job's images may fail
estimate.py    size and time of a job, from a trial of its first images
redrawing.py   one draw made again from its row
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
