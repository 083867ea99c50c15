"""Posteriors and decoding of label sequences of connectionist temporal classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import AlignmentModel, Inputs
from pgnn.errors import ImpossibleEvidence, Unsupported
from pgnn.factors.randomness import generator
from pgnn.inference.assignment import Assignment, KBest
from pgnn.inference.base_question import Names
from pgnn.inference.explanation import Explanation
from pgnn.inference.posterior import Posterior
from pgnn.inference.samples import Samples
from pgnn.inference.time.alignment_question import AlignmentQuestion, collapsed, padded
from pgnn.inference.time.best_labellings import best_labellings
from pgnn.inference.time.sequence_reader import SequenceReader
from pgnn.limits import check_settings


@dataclass(frozen=True)
class PrefixSearch(SequenceReader):
    r"""Exact sums over alignments, and the best labels by prefix search.

    Args:
        width: Largest number of prefixes of each length. If no prefix is dropped, the answer is
            exact, and the ``upper_bound`` of the assignment equals its ``log_prob``; otherwise, the
            bound limits the loss. 0 is greedy: the labels of the best path.

    Raises:
        ModelError: If the width is negative.

    Cost: :math:`O(T u)` a row of ``u`` labels; a search :math:`O(T K w)` for each label.

    References:
        Graves (2012), Supervised sequence labelling with recurrent neural networks, chapter 7.
    """

    answers_about = AlignmentModel
    subject = "models of alignments such as CTC"

    width: int = 64

    def __post_init__(self) -> None:
        check_settings(self, width=0)

    def ask(
        self, model: Any, evidence: Any, inputs: Inputs | None, names: Names | None, errors: str
    ) -> AlignmentQuestion:
        """Read evidence, see the base class."""
        names = None if isinstance(names, list) and not names else names
        question = AlignmentQuestion(model, evidence, inputs, names, errors)
        symbols = model.label.num_states + 1
        self.check_cost(question, question.num_rows * question.steps * symbols)
        return question

    def answer_query(self, question: AlignmentQuestion) -> Posterior:
        """Return probabilities of the symbol at each step, given the labels if they are known."""
        model, observed = question.model, question.observed
        if question.names is not None and model.label.name in question.queried:
            raise Unsupported(
                "the number of labels is unknown",
                f"query {model.alignment.name!r}, or use decode() or sample() for "
                f"{model.label.name!r}",
            )
        log_z = self.answer_log_prob(question)
        self.check_possible(question, log_z)
        known = question.knows_labels
        marginals = question.alignments.posterior() if known else question.log_probs.exp()
        beyond = torch.arange(marginals.shape[1]) >= observed.input_lengths[:, None]
        gone = beyond.to(log_z.device) | log_z.isneginf()[:, None]
        return Posterior(
            [question.over(model.alignment, marginals.shape[1])],
            marginals.masked_fill(gone[..., None], torch.nan).flatten(start_dim=1),
            log_z,
            batched=observed.batched,
            engine=type(self).__name__,
            index=question.index,
        )

    def answer_log_prob(self, question: AlignmentQuestion) -> Tensor:
        """``(B,)`` log probabilities of the labels."""
        if not question.knows_labels:
            return question.log_probs.new_zeros(question.num_rows)
        return question.alignments.log_partition()

    def answer_most_probable(self, question: AlignmentQuestion, k: int) -> Assignment | KBest:
        """Return the best path, the best path of the known labels, or the best labels."""
        model = question.model
        if question.knows_labels or model.alignment.name in question.queried:
            return self._best_path(question, k)
        rows: list[list[list[int]]] = []
        bounds = []
        for logs, start in zip(self._numbers(question), self._greedy(question), strict=True):
            labellings = best_labellings(logs, self.width, k, start)
            rows.append([list(labels) for labels, _ in labellings.best])
            bounds.append(labellings.bound)
        ranks = max(map(len, rows), default=1)
        codes, sizes = padded([r for row in rows for r in row + [[]] * (ranks - len(row))])
        counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        present = torch.arange(ranks) < counts[:, None]
        states = codes.reshape(len(rows), ranks, codes.shape[1])
        each = sizes.reshape(-1, ranks)
        scores = [question.aligned(states[:, j], each[:, j]).log_partition() for j in range(ranks)]
        log_prob = torch.stack(scores, dim=1) if scores else torch.zeros(0, 1)
        log_prob = log_prob.masked_fill(~present.to(log_prob.device), -torch.inf)
        self.check_possible(question, log_prob[:, 0])
        bound = torch.tensor(bounds, dtype=torch.float64).to(log_prob)
        label = question.over(model.label, states.shape[2])
        return self._answer(question, {label: states}, log_prob, bound, k)

    def _best_path(self, question: AlignmentQuestion, k: int) -> Assignment | KBest:
        """Return the best path of symbols, and its labels where they are targets."""
        model, observed = question.model, question.observed
        if k > 1:
            raise Unsupported(
                "one best path, or the k best labels",
                f"leave {model.alignment.name!r} out of the targets",
            )
        if question.knows_labels:
            paths, scores = question.alignments.best()
            labels = observed.codes[model.label.name]
        else:
            paths, scores = best_symbols(question.log_probs, observed.input_lengths)
            labels = collapsed(paths)
        self.check_possible(question, scores)
        states = {}
        for variable, path in ((model.label, labels), (model.alignment, paths.cpu())):
            if variable.name in question.queried:
                gone = scores.detach().isneginf().cpu()[:, None]
                sized = question.over(variable, path.shape[1])
                states[sized] = path.masked_fill(gone, -1)[:, None]
        return self._answer(question, states, scores[:, None], scores, 1)

    def _answer(
        self, question: AlignmentQuestion, states: dict[Any, Tensor], log_prob: Tensor,
        bound: Tensor, k: int,
    ) -> Assignment | KBest:  # fmt: skip
        """Put states ``(B, k, length)`` of the variables together."""
        codes, batched = torch.cat([*states.values()], dim=2), question.observed.batched
        if k > 1:
            return KBest([*states], codes, log_prob, batched=batched, index=question.index)
        return Assignment(
            [*states], codes[:, 0], log_prob[:, 0], batched=batched, index=question.index,
            upper_bound=torch.maximum(bound, log_prob[:, 0]), engine=type(self).__name__,
        )  # fmt: skip

    def _numbers(self, question: AlignmentQuestion) -> list[Any]:
        """``(T, K + 1)`` logs of each row, without the steps after its end."""
        logs = question.log_probs.detach().double().cpu().numpy()
        lengths = question.observed.input_lengths.tolist()
        return [x[:t] for x, t in zip(logs, lengths, strict=True)]

    def _greedy(self, question: AlignmentQuestion) -> list[dict[tuple[int, ...], float]]:
        """Return the labels of the best path of each row, with their log probability."""
        with torch.no_grad():
            paths, _ = best_symbols(question.log_probs, question.observed.input_lengths)
            labels = collapsed(paths)
            sizes = (labels >= 0).sum(-1)
            scores = question.aligned(labels, sizes).log_partition().tolist()
        rows = zip(labels.tolist(), sizes.tolist(), scores, strict=True)
        return [{tuple(row[:n]): score} for row, n, score in rows]

    def answer_sample(self, question: AlignmentQuestion, n: int, seed: int | None) -> Samples:
        """Return draws of paths, and their labels."""
        model, observed = question.model, question.observed
        if question.knows_labels:
            self.check_possible(question, question.alignments.log_partition())
            paths = question.alignments.sample(n, seed)
            labels = observed.codes[model.label.name].expand(n, -1, -1)
        else:
            paths = _drawn(question.log_probs.detach(), observed.input_lengths, n, seed)
            labels = collapsed(paths)
        variables = [
            question.over(model.label, labels.shape[-1]),
            question.over(model.alignment, paths.shape[-1]),
        ]
        codes = torch.cat([labels, paths.cpu()], dim=-1)
        codes = codes if observed.batched else codes[:, 0]
        return Samples(variables, codes, batched=observed.batched, index=question.index)

    def impossible(self, question: AlignmentQuestion, rows: list[int]) -> ImpossibleEvidence:
        """Return the error for rows of probability zero, with the number of steps they need."""
        row, observed = rows[0], question.observed
        if not question.knows_labels:
            return ImpossibleEvidence(
                f"{len(rows)} of {question.num_rows} rows have a step at which every symbol has "
                f"probability zero (first: row {row})",
                tuple(rows),
            )
        needed = int(steps_needed(observed.codes[question.model.label.name], observed.lengths)[row])
        steps = int(observed.input_lengths[row])
        why = (
            f"{int(observed.lengths[row])} labels need at least {needed} steps, got {steps}"
            if needed > steps
            else "a symbol that it needs has probability zero"
        )
        return ImpossibleEvidence(
            f"{len(rows)} of {question.num_rows} rows have probability zero (first: row {row}: "
            f"{why})",
            tuple(rows),
            advice="errors='nan' answers the other rows",
        )

    def describe(self, question: AlignmentQuestion) -> Explanation:
        """See :meth:`Model.explain`."""
        cells = question.num_rows * question.steps
        return Explanation(
            engine=type(self).__name__,
            kind="exact",
            reason="alignments form a chain through the labels: forward and backward over steps",
            num_variables=question.num_cells,
            num_eliminated=cells,
            num_sliced=int(question.observed.lengths.sum()),
            memory_bytes=8 * cells * (2 * question.observed.steps + 1),
            treewidth=1,
        )


def best_symbols(log_probs: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(B, T)`` best symbols, -1 beyond the end, and ``(B,)`` their scores."""
    best, symbols = log_probs.max(-1) if log_probs.shape[1] else (log_probs.sum(-1),) * 2
    inside = (torch.arange(log_probs.shape[1]) < steps[:, None]).to(best.device)
    return symbols.long().masked_fill(~inside, -1), best.masked_fill(~inside, 0.0).sum(-1)


def steps_needed(codes: Tensor, sizes: Tensor) -> Tensor:
    """Return ``(B,)`` fewest steps that emit labels: one each, and a blank between equal ones."""
    within = torch.arange(codes.shape[1]) < sizes[:, None]
    equal = (codes[:, 1:] == codes[:, :-1]) & within[:, 1:]
    return sizes + equal.sum(1)


def _drawn(log_probs: Tensor, steps: Tensor, n: int, seed: int | None) -> Tensor:
    """``(n, B, T)`` independent draws of the symbols, -1 beyond the end."""
    rows, most, symbols = log_probs.shape
    inside = torch.arange(most) < steps[:, None]
    probs = torch.where(inside[..., None].to(log_probs.device), log_probs.exp(), 1.0).cpu()
    if not probs.numel() or not n:
        return torch.full((n, rows, most), -1)
    flat = probs.double().reshape(-1, symbols)
    drawn = torch.multinomial(flat, n, replacement=True, generator=generator(seed))
    return drawn.T.reshape(n, rows, most).masked_fill(~inside, -1)
