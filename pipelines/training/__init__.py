"""The training engine, beside the batch engine: a preset and a dataset make a model, on Ray Train.

engine.py            ``train``: a run from its options to its report; ``describe_run`` tells what it would do
options.py           what is trained, and how; each option of the command is a field
job.py               what the driver hands to the workers
data.py              which presets can be trained, and how their datasets are streamed
driver.py            attempts until training has ended: waits, drains, other numbers of workers, failures, signals
attempt.py           one attempt: ``fit`` of Ray Train with a fixed number of workers
attempt_watch.py     when an attempt is asked to stop
patience.py          storage that gives no answer is asked again, for minutes
failures.py          how many failures of workers a run bears
capacity.py          how the cluster is shared between workers and decoding
monitor.py           the actor by which the driver and the workers of an attempt talk
backend.py           how the workers' processes are set up
signals.py           SIGTERM and SIGUSR2, in the driver and in workers
requests.py          what is asked of a worker between two steps
worker.py            what each worker does, and checkpoints
loop.py              the training loop, which knows nothing of Ray or of families
loss_watch.py        when training has gone wrong
feed.py              the model's batches, made of the stream's
first_model.py       the weights that a run begins with
run_folder.py        the run on disk: configuration, metrics, checkpoints, model
run_config.py        what of a run's configuration may change when it goes on
checkpoint_names.py  the folders of checkpoints, and which of them are whole
lease.py             who may write into the run's folder: one driver at a time
process_identity.py  which process holds it, and whether that is gone
saving.py            checkpoints: what is in them, and how they are written while training goes on
keeping.py           which checkpoints are kept
fetching.py          one download of a checkpoint a machine
validation.py        a checkpoint measured on the fixed sample of a held-out split
validation_rows.py   the rows of validation.jsonl
sample_sheet.py      a sheet of what a model makes of some images
validator.py         checkpoints validated by tasks of Ray, while training goes on
trackers.py          the run's rows in TensorBoard, MLflow and Weights & Biases
tracker_kinds.py     how each of these is told
status.py            how the run stands, for those who look at it from outside
gauges.py            what Prometheus sees of the run
report.py            what the user is told
revision.py          the git commit of condgen's source
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
