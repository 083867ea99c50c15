"""Prefixes of sequences kept by a search, batched over rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgnn.inference.time.beginning_question import BeginningQuestion
from pgnn.limits import check_size


class Beams:
    """The most probable prefixes of one length, and the most probable complete sequences.

    A prefix is dropped if it is no more probable than the ``k``-th best sequence, which it cannot
    exceed; or for lack of space, which ``lost`` records.

    Args:
        question: The model and its observations.
        width: Largest number of prefixes of each row.
        k: Number of sequences to find.

    Attributes:
        step: Number of steps of the prefixes.
    """

    def __init__(self, question: BeginningQuestion, width: int, k: int) -> None:
        self.question, self.width, self.k = question, width, k
        rows = question.num_rows
        self.step = 0
        self.state = question.model.start(question.observed)
        self.scores = torch.zeros(rows, 1, dtype=torch.float64)
        self.paths = torch.zeros(rows, 1, 0, dtype=torch.int64)
        self.best = torch.full((rows, k), -torch.inf, dtype=torch.float64)
        self.best_paths = torch.zeros(rows, k, 0, dtype=torch.int64)
        self.lost = torch.full((rows,), -torch.inf, dtype=torch.float64)

    def extend(self) -> bool:
        """Take one step; return whether prefixes remain.

        A prefix that may end here becomes a sequence, and all are extended by all values.
        """
        going, ended = self._ends()
        self._finish(self.scores + ended)
        logs = self.question.model.next_log_probs(self.state).double().cpu()
        rows, beams, states = *self.scores.shape, logs.shape[-1]
        check_size(f"{beams:,} beginnings of {rows:,} rows", rows * beams * states,
                   advice="Give a smaller width, or fewer rows at a time")  # fmt: skip
        logs = self._observed(logs.reshape(rows, beams, states))
        scores = ((self.scores + going)[..., None] + logs).flatten(start_dim=1)
        scores = scores.masked_fill(scores <= self.best[:, -1:], -torch.inf)
        kept, order = scores.topk(min(self.width + 1, scores.shape[1]), dim=1)
        if kept.shape[1] > self.width:
            self.lost = torch.maximum(self.lost, kept[:, self.width])
            kept, order = kept[:, : self.width], order[:, : self.width]
        parent, value = order // states, order % states
        self.scores = kept
        self.step += 1
        self.paths = torch.cat([_of(self.paths, parent), value[..., None]], dim=2)
        if not bool((kept > -torch.inf).any()):
            return False
        places = (torch.arange(rows)[:, None] * beams + parent).reshape(-1)
        name = next(iter(self.question.model.variables))
        self.state = self.question.model.advance(
            rows_of(self.state, places), {name: value.reshape(-1)}
        )
        return True

    def stop(self) -> None:
        """End all remaining prefixes; prefixes that the model cannot end are dropped."""
        if not bool((self.scores > -torch.inf).any()):
            return
        going, ended = self._ends()
        self._finish(self.scores + ended)
        if self.question.goals is None:
            self.lost = torch.maximum(self.lost, (self.scores + going).amax(1))

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(B, k, T)`` sequences, ``(B, k)`` scores and ``(B,)`` bounds of all others."""
        used = (self.best_paths >= 0).any(1).any(0) if self.best_paths.numel() else None
        steps = 0 if used is None or not bool(used.any()) else int(used.nonzero().max()) + 1
        # a prefix less probable than the best sequences found cannot improve on them
        return self.best_paths[..., :steps], self.best, torch.maximum(self.best[:, 0], self.lost)

    def _ends(self) -> tuple[Tensor, Tensor]:
        """Return ``(B, beams)`` log probabilities of continuing, and of ending here."""
        question, shape = self.question, self.scores.shape
        if question.goals is not None:
            done = (self.step >= question.goals)[:, None].expand(shape)
            zero = torch.zeros(shape, dtype=torch.float64)
            return zero.masked_fill(done, -torch.inf), zero.masked_fill(~done, -torch.inf)
        going, ended = question.model.end_log_probs(self.state)
        early = (self.step < question.known)[:, None]
        end_score = ended.double().cpu().reshape(shape).masked_fill(early, -torch.inf)
        return going.double().cpu().reshape(shape), end_score

    def _observed(self, logs: Tensor) -> Tensor:
        """Return log probabilities, restricted to observed values."""
        present = self.step < self.question.known
        if not bool(present.any()):
            return logs
        (codes,) = self.question.observed.codes.values()
        other = torch.arange(logs.shape[-1]) != codes[:, self.step, None, None]
        return logs.masked_fill(other & present[:, None, None], -torch.inf)

    def _finish(self, scores: Tensor) -> None:
        """Merge complete sequences into the best ones."""
        both = torch.cat([self.best, scores], dim=1)
        short = torch.nn.functional.pad(
            self.best_paths, (0, self.step - self.best_paths.shape[2]), value=-1
        )
        self.best, order = both.topk(self.k, dim=1)
        paths = torch.cat([short, self.paths], dim=1)
        self.best_paths = _of(paths, order).masked_fill(self.best.isneginf()[..., None], -1)


def rows_of(state: Any, rows: Tensor) -> Any:
    """Return rows of nested tuples of tensors.

    Args:
        state: Nested tuples or named tuples of tensors with rows first, and None.
        rows: ``(R,)`` indices of the rows.

    Example:
        >>> rows_of((torch.arange(3), None), torch.tensor([2, 0]))
        (tensor([2, 0]), None)
    """
    if isinstance(state, Tensor):
        return state[rows.to(state.device)]
    if isinstance(state, tuple):
        parts = [rows_of(x, rows) for x in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def _of(paths: Tensor, index: Tensor) -> Tensor:
    """Return ``(B, m, T)`` paths selected from ``(B, n, T)`` by indices ``(B, m)``."""
    return paths.gather(1, index[..., None].expand(*index.shape, paths.shape[2]))
