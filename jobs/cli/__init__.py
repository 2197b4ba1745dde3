"""The command line ``condgen COMMAND``: a function for each command, grouped in modules by topic.

app.py          the program ``condgen``; ``demo``, ``train`` and ``models``; how a command ends
batch.py        ``colorize`` and ``translate``
datasets.py     ``shard``, ``index``, ``inspect`` and ``validate``
results.py      ``verify``, ``extract``, ``redraw`` and ``report``
evaluation.py   ``evaluate`` and ``compare``
chapter.py      ``chapter``
options.py      options of commands, made from dataclasses
config.py       presets, YAML files and ``--set`` as the configuration of a training
progress.py     the log and the progress bar

A module with commands has a function such as ``add_results_commands``, which ``app.py`` calls.
"""
