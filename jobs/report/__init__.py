"""The job of ``condgen report``: pages that show results.

page.py           the page of a batch job's results
choice.py         which images it shows: random ones, and the best and worst of an evaluation
results_files.py  the chunks of results: which images have draws, their rows, what the archive has of them
samples.py        the images shown: inputs, draws, originals, and what is known of each
measured.py       the numbers by which they are ordered
thumbnails.py     small images for a page of a bounded size
failures.py       the images that failed, and their inputs
items.py          what the page holds for its script
checks.py         whether a model copies its input or ignores its noise
curves.py         a training curve as numbers for an SVG
evaluation.py     an evaluation's table and curves
"""

__all__: list[str] = []
