"""Several starts of expectation maximisation, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pgnn.inference.learning.em_start import EMStart
from pgnn.inference.learning.joined_chains import expect_side_by_side
from pgnn.inference.loop import Info
from pgnn.inference.threads import Ints, in_threads


class EMStarts:
    """Starts that pass over the sequences in step; an iteration of all that are not done.

    Chains of few short sequences are joined into one, others run on threads: the same numbers.

    Args:
        starts: The starts, of one model and the same sequences.
    """

    def __init__(self, starts: Sequence[EMStart]) -> None:
        self.starts = starts

    def init(self) -> None:
        """The starts hold their own state."""

    def step(self, state: None) -> tuple[None, Info]:
        """One pass of every start that is not done."""
        active = [s for s in self.starts if not s.done]
        found = None
        if len(active) > 1 and not active[0].streams:
            found = expect_side_by_side([s.e_step for s in active], active[0].seen)
        if found is not None:
            for start, own in zip(active, found, strict=True):
                start.advance(own)
        else:
            self._on_threads(active)
        done = all(s.done for s in self.starts)
        best = max(self.starts, key=lambda s: s.trace["objective"][-1])
        return None, Info(done, {"log_likelihood": best.trace["log_likelihood"][-1]})

    def _on_threads(self, active: Sequence[EMStart]) -> None:
        def some(which: Ints) -> None:
            for k in which:
                active[int(k)].advance()

        in_threads(some, np.arange(len(active)))
