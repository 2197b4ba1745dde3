"""The commands of ``condgen``: each parses its options, runs one job, and prints the job's report.

cli/          the command line: a function for each command, its options, and how a command ends
batch.py      the job of ``colorize`` and ``translate``
train.py      the job of ``train``
datasets/     the jobs of ``shard``, ``index``, ``inspect`` and ``validate``
results/      the jobs of ``verify``, ``extract`` and ``redraw``
report/       the job of ``report``
evaluation/   the jobs of ``evaluate`` and ``compare``
demo/         the job of ``demo``
chapter/      the job of ``chapter``: claims, and the experiments that check them
viewer/       the front end of the pages that show images
templates/    the HTML of the pages

A new command is a function in ``cli/`` and a job beside it; what others may want to use from Python is in
``pipelines``.
"""
