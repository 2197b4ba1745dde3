"""When has training gone wrong? Where a loss is not finite, or has grown out of all proportion.

    early = mean of |loss| over the first 100 steps;   diverged: mean of the last 20 losses > factor * early

The losses of GANs come and go by small factors and those of likelihoods cross zero: nothing finer holds for all
families, and what has diverged is beyond it within some steps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["EARLY_STEPS", "RECENT_STEPS", "LossWatch"]

EARLY_STEPS = 100
RECENT_STEPS = 20


@dataclass(kw_only=True)
class LossWatch:
    """Looks at the loss of each step of one worker.

    Attributes:
        factor: how many times larger than in the beginning the loss may be; 0 looks for what is not finite alone.
        early_sum, early_steps: sum of |loss| over the first steps, and their number: what a resume has to know.
    """

    factor: float
    early_sum: float = 0.0
    early_steps: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS), repr=False)
    _asked: tuple[Tensor, torch.cuda.Event] | None = field(default=None, repr=False)

    def look(self, terms: Iterable[Tensor]) -> tuple[bool, bool]:
        """Take the terms of a step's loss; on a GPU, not to wait for it, the answer is that of the step before.

        Returns:
            Whether the loss is not finite, and whether it has diverged.
        """
        losses = [value.detach().float() for value in terms]
        loss = torch.stack(losses).sum() if losses else torch.zeros(())
        if loss.device.type != "cuda":
            return self.judge(float(loss))
        # The answer is on its way before the next step is begun: asked for then, it would come after that step's work.
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        answer = loss.to("cpu", non_blocking=True)
        event.record()
        before, self._asked = self._asked, (answer, event)
        if before is None:
            return False, False
        before[1].synchronize()
        return self.judge(float(before[0]))

    def judge(self, loss: float) -> tuple[bool, bool]:
        """Return what ``look`` does, for the next step's loss as a number."""
        if not math.isfinite(loss):
            return True, False
        if self.early_steps < EARLY_STEPS:
            self.early_sum += abs(loss)
            self.early_steps += 1
            return False, False
        self._recent.append(loss)
        is_full = len(self._recent) == RECENT_STEPS
        limit = self.factor * self.early_sum / self.early_steps
        return False, bool(self.factor) and is_full and sum(self._recent) / RECENT_STEPS > limit
