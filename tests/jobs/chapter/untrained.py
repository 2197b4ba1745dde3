"""What holds for every experiment of the chapter before its model has learned anything."""

from jobs.chapter.claims import Experiment, judge


def fails_untrained(one: Experiment, effort: float) -> bool:
    """Check that an experiment measures what its claims need, and tell whether an untrained model fails one."""
    made = one.run(0, effort)
    assert {bound.metric for claim in one.claims for bound in claim.bounds} <= set(made.numbers)
    assert all(0 <= float(image.min()) <= float(image.max()) <= 1 for image in made.images.values())
    return any(row.passed is False for row in judge(one, [made.numbers] * len(one.seeds)))
