"""What engines are: hooks that answer a question, which the verbs have read and checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import pgnn
from pgnn import Beliefs, Best, Engine, Question
from pgnn.errors import EvidenceError, ImpossibleEvidence, Intractable, ModelError, Unsupported
from pgnn.evidence.evidence_reader import EvidenceReader
from pgnn.evidence.row_evidence import RowEvidence


def network() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([("a", "b")], {"a": [0.8, 0.2], "b": [[0.975, 0.025], [0.2, 0.8]]})


def impossible() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork([("a", "b")], {"a": [0.8, 0.2], "b": [[1.0, 0.0], [1.0, 0.0]]})


@pytest.mark.parametrize("engine", ["exact", pgnn.JunctionTree, pgnn.MaximumLikelihood()])
def test_engines(engine: Any) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    for verb in (model.query, model.most_probable, model.sample, model.explain, model.compile):
        with pytest.raises(ModelError, match=r"engine must be one such as pgnn.JunctionTree\(\)"):
            verb(engine=engine)
    with pytest.raises(ModelError, match="engine must be"):
        model.log_prob({}, engine=engine)


@pytest.mark.parametrize("learner", ["EM", pgnn.MaximumLikelihood, pgnn.JunctionTree()])
def test_learners(learner: Any) -> None:
    model = pgnn.BayesianNetwork([("a", "b")], states={"a": 2, "b": 2})
    with pytest.raises(ModelError, match="learner must be one such as MaximumLikelihood"):
        model.fit({"a": [0], "b": [1]}, learner=learner)


# --- hooks ----------------------------------------------------------------------------------------


class Nothing(Engine):
    """Overrides nothing."""


REFUSALS = [
    ("query", lambda m, e: m.query(engine=e), r"has no marginals; use JunctionTree\(\)"),
    ("most_probable", lambda m, e: m.most_probable(engine=e), r"does not maximise; use Junction"),
    ("k", lambda m, e: m.most_probable(engine=e, k=2), r"not several; use JunctionTree\(\)"),
    ("sample", lambda m, e: m.sample(engine=e), r"does not draw; use Gibbs\(\)"),
    ("log_prob", lambda m, e: m.log_prob({"a": 0}, engine=e), r"has no marginals; use Junction"),
    ("compile", lambda m, e: m.compile(engine=e), r"no compiled queries; use JunctionTree\(\)"),
]


@pytest.mark.parametrize(("verb", "ask", "message"), REFUSALS, ids=[r[0] for r in REFUSALS])
def test_what_an_engine_leaves_out_refuses_and_names_another(
    verb: str, ask: Callable[..., Any], message: str
) -> None:
    with pytest.raises(Unsupported, match=rf"Nothing\(\) .*{message}"):
        ask(network(), Nothing())


def test_complete_rows_are_looked_up_whatever_the_engine() -> None:
    rows = {"a": [0, 1], "b": [1, 1]}
    found = network().log_prob(rows, engine=Nothing())
    torch.testing.assert_close(found.exp(), torch.tensor([0.02, 0.16], dtype=torch.float64))


class Enumeration(Engine):
    """What a user may write: every joint state is looked at."""

    def infer(self, question: Question) -> Beliefs:
        """See :meth:`Engine.infer`."""
        states, scores = self._scores(question)
        weights = scores.exp()
        elements = question.graph.elements
        columns = torch.nn.functional.one_hot
        shares = [columns(states[:, k], int(n)) for k, n in enumerate(elements.card)]
        sums = weights @ torch.cat(shares, dim=1).double()
        total = weights.sum(1)
        return Beliefs(sums / total[:, None], total.log(), kind="exact")

    def maximize(self, question: Question, maximized: Any) -> Best:
        """See :meth:`Engine.maximize`."""
        states, scores = self._scores(question)
        best = scores.max(dim=1)
        return Best(states[best.indices], best.values)

    def _scores(self, question: Question) -> tuple[torch.Tensor, torch.Tensor]:
        """All joint states, and ``(B, states)`` log scores given the evidence."""
        card = question.graph.elements.card
        states = torch.tensor(list(np.ndindex(*card)))
        scores = question.graph.log_score(states.numpy().astype(np.int32))
        codes = torch.from_numpy(question.observed.codes)[:, None]
        allowed = ((codes < 0) | (codes == states)).all(-1)
        return states, scores.masked_fill(~allowed, -torch.inf)


@pytest.mark.parametrize("evidence", [None, {"b": 1}, {"b": [0, 1, None]}])
def test_an_engine_of_two_hooks_answers_as_the_exact_one(evidence: Any) -> None:
    model, own, exact = network(), Enumeration(), pgnn.JunctionTree()
    found = model.query(None, evidence, engine=own)
    want = model.query(None, evidence, engine=exact)
    for name in model.variables:
        torch.testing.assert_close(found[name].probs, want[name].probs)
    torch.testing.assert_close(found.log_evidence, want.log_evidence)
    assert (found.engine, found.kind) == ("Enumeration", "exact")
    best = model.most_probable(evidence, engine=own)
    assert torch.equal(best.codes, model.most_probable(evidence, engine=exact).codes)
    assert model.explain(engine=own).engine == "Enumeration"
    with pytest.raises(
        ImpossibleEvidence, match=r"JunctionTree\(\) names the conflicting evidence"
    ):
        impossible().query(None, {"b": 1}, engine=own)


def returning(what: Any) -> Engine:
    class Wrong(Engine):
        """Returns what it should not."""

        def infer(self, question: Question) -> Any:
            return what

        def maximize(self, question: Question, maximized: Any) -> Any:
            return what

        def draw(self, question: Question, n: int, seed: int | None) -> Any:
            return what

    return Wrong()


ONE = torch.zeros(1)
WRONG: list[tuple[str, Any, Callable[..., Any], str]] = [
    ("type", {"a": 1}, lambda m, e: m.query(engine=e), r"infer must return a Beliefs, got \{'a'"),
    ("none", None, lambda m, e: m.log_prob({"a": 0}, engine=e), "infer must return a Beliefs"),
    ("width", Beliefs(torch.zeros(1, 3), ONE), lambda m, e: m.query(engine=e),
     r"infer must return marginals as a tensor of shape \(1, 4\), got shape \(1, 3\)"),
    ("rows", Beliefs(torch.zeros(1, 4), torch.zeros(())), lambda m, e: m.query(engine=e),
     r"return log_evidence as a tensor of shape \(1,\), got shape \(\)"),
    ("array", Beliefs(np.zeros((1, 4)), ONE),  # type: ignore[arg-type]
     lambda m, e: m.query(engine=e), "return marginals as a tensor .* got array"),
    ("best", ONE, lambda m, e: m.most_probable(engine=e), "maximize must return a Best"),
    ("states", Best(torch.zeros(1, 3), ONE), lambda m, e: m.most_probable(engine=e),
     r"maximize must return states as a tensor of shape \(1, 2\), got shape \(1, 3\)"),
    ("tensor", torch.zeros(5, 1, 2), lambda m, e: m.sample(5, engine=e), "return a tuple"),
    ("draws", (torch.zeros(5, 2), None), lambda m, e: m.sample(5, engine=e),
     r"draw must return states as a tensor of shape \(5, 1, 2\), got shape \(5, 2\)"),
    ("weights", (torch.zeros(5, 1, 2), torch.zeros(5)), lambda m, e: m.sample(5, engine=e),
     r"return log weights as a tensor of shape \(5, 1\)"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "ask", "message"), [w[1:] for w in WRONG],
                         ids=[w[0] for w in WRONG])  # fmt: skip
def test_what_an_engine_must_not_return(what: Any, ask: Callable[..., Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ask(network(), returning(what))


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        (pgnn.BeliefPropagation(), "estimate"),
        (pgnn.BeliefPropagation(tree_reweighted=True), "upper bound"),
        (pgnn.MeanField(seed=0), "lower bound"),
        (pgnn.Gibbs(), "estimate"),
        (pgnn.JunctionTree(), "exact"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_an_explanation_says_of_what_kind_the_answer_will_be(engine: Engine, kind: str) -> None:
    assert network().explain(engine=engine).kind == kind


# --- one question ---------------------------------------------------------------------------------


def test_the_question_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in the end: evidence is read where the verb is called, and only there."""
    model, count = network(), []
    read = EvidenceReader.read

    def counting(self: Any, evidence: Any = None) -> Any:
        count.append(isinstance(evidence, RowEvidence))
        return read(self, evidence)

    model.query()  # what is known of the model once and for all
    monkeypatch.setattr(EvidenceReader, "read", counting)
    verbs: list[Callable[[], Any]] = [
        lambda: model.query("a", {"b": 1}),
        lambda: model.most_probable({"b": 1}),
        lambda: model.sample(2, {"b": 1}),
        lambda: model.log_prob({"b": [1, 0]}),
        lambda: model.explain("a", {"b": 1}),
    ]
    for verb in verbs:
        count.clear()
        verb()
        assert count == [False]


@pytest.mark.parametrize("engine", [None, pgnn.JunctionTree(), pgnn.Gibbs(), Nothing()])
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, e: m.most_probable(k=2.5, engine=e), "k must be a whole number, got 2.5"),
        (lambda m, e: m.most_probable(k="2", engine=e), "k must be a whole number, got '2'"),
        (lambda m, e: m.most_probable(k=0, engine=e), "k must be at least 1, got 0"),
        (lambda m, e: m.sample("3", engine=e), "samples must be a whole number, got '3'"),
        (lambda m, e: m.sample(-1, engine=e), "samples must not be negative, got -1"),
        (lambda m, e: m.sample(2, seed=-1, engine=e), "seed must not be negative, got -1"),
        (lambda m, e: m.sample(2, seed=0.5, engine=e), "seed must be a whole number, got 0.5"),
        (lambda m, e: m.query(errors="skip", engine=e), "errors must be 'raise' or 'nan'"),
    ],
)
def test_wrong_arguments(engine: Engine | None, ask: Callable[..., Any], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        ask(network(), engine)


@pytest.mark.parametrize("engine", [None, pgnn.JunctionTree(), pgnn.Gibbs()])
@pytest.mark.parametrize(
    "ask",
    [
        lambda m, e: m.sample(10**9, engine=e),
        lambda m, e: m.sample(10**6, {"a": [0] * 10_000}, engine=e),
        lambda m, e: m.sample(10**30, engine=e),
    ],
)
def test_too_many_draws_are_refused_before_memory_is_touched(engine: Any, ask: Any) -> None:
    with pytest.raises(Intractable, match=r"draws of .* rows would need .*; the budget is 4.0 GiB"):
        ask(network(), engine)


@pytest.mark.parametrize("k", [10**9, 10**18, 10**40])
def test_too_many_assignments_are_refused_before_memory_is_touched(k: int) -> None:
    with pytest.raises(Intractable, match=r"assignments .* would need .*; the budget is 4.0 GiB"):
        network().most_probable(k=k)
    with pytest.raises(Intractable, match=r"the budget is 1.0 KiB"):
        network().most_probable(k=100, engine=pgnn.JunctionTree(max_bytes=1024))
