"""What notebooks show: numbers are there, text is escaped, nothing is loaded, it is short."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import pgnn
from pgnn.inference.continuous.real_posterior import RealPosterior
from pgnn.inference.history import History

NASTY = "<script>alert('x')</script>"


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick"}

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def shown(thing: Any) -> Reader:
    text = thing._repr_html_()
    assert len(text) < 60_000
    reader = Reader(text)
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    return reader


@pytest.fixture(scope="module")
def model() -> pgnn.BayesianNetwork:
    tables = {NASTY: [0.25, 0.75], "b": [[1.0, 0.0], [0.5, 0.5]]}
    return pgnn.BayesianNetwork([(NASTY, "b")], tables, states={NASTY: ["<i>", "&"], "b": 2})


def test_models_show_variables_states_and_tables(model: pgnn.BayesianNetwork) -> None:
    reader = shown(model)
    assert NASTY in reader.text
    assert "<i>, &" in reader.text
    assert "0.25" in reader.text
    assert "table of b" in reader.text
    assert "p(b | <script>" in shown(model.conditionals["b"]).text
    chain = shown(pgnn.HiddenMarkovModel(2, {"x": 3}))
    assert "0, 1, 2; T cells" in chain.text
    assert "not fitted" in shown(pgnn.BayesianNetwork([("p", "q")])).text


def test_posteriors_show_bars(model: pgnn.BayesianNetwork) -> None:
    posterior = model.query(evidence={"b": 1})
    reader = shown(posterior)
    assert f"{float(posterior[NASTY].probs[0]):.4g}" in reader.text.split()
    assert "log evidence -0.98" in reader.text
    assert reader.tags.count("div") >= 8
    assert "the first of 2" in shown(model.query(evidence={"b": [0, 1]})).text
    many = pgnn.BayesianNetwork([], {"x": [1 / 50] * 50}, states={"x": 50})
    assert "42 less probable states" in shown(many.query()).text


def test_other_answers(model: pgnn.BayesianNetwork) -> None:
    assert "JunctionTree (exact)" in shown(model.explain()).text
    samples = shown(model.sample(1000, seed=0))
    assert "1000 of 2 variables" in samples.text
    assert samples.tags.count("tr") <= 12
    assert "<i>" in samples.text or "&" in samples.text
    assert "yes" not in shown(model.most_probable({"b": 1})).text


def test_histories_show_figures_and_traces() -> None:
    reader = shown(History(rows=10, learner=NASTY, trace={"log_likelihood": [-3.0, -2.5, -2.25]}))
    assert NASTY in reader.text
    assert "polyline" in reader.tags
    assert "-3 to -2.25" in reader.text
    assert "not fitted" in shown(History()).text


def test_arrays_are_summed_up() -> None:
    pixels = pgnn.Variable("pixel", 2, shape=(30, 30))
    posterior = pgnn.Posterior([pixels], torch.full((1, 1800), 0.5), torch.zeros(1), batched=False)
    assert "30 x 30 cells" in shown(posterior).text
    assert shown(posterior).text.count("pixel") == 1


def test_records_are_printed_in_short() -> None:
    record = History(learner="EM", weights=list(range(1000)), trace={"log_likelihood": [-3.0]})
    assert "'learner': 'EM'" in repr(record)
    assert "'trace': {'log_likelihood': '1 values'}" in repr(record)
    assert len(repr(record)) < 250


def test_posteriors_of_reals_are_tables() -> None:
    mean, y = pgnn.Variable("mean"), pgnn.Variable("y")
    tables = {
        "mean": pgnn.Gaussian(mean, mean=0.0, covariance=1.0),
        "y": pgnn.LinearGaussian(y, [mean], [1.0], 0.0, covariance=1.0),
    }
    model = pgnn.BayesianNetwork([("mean", "y")], tables)
    reader = shown(model.query("mean", {"y": 2.0}))
    assert reader.tags.count("th") == 6
    assert "posterior of 1 variable (" in reader.text
    draws = {"mean": torch.linspace(-1.0, 1.0, 40).reshape(2, 20)}
    sampled = RealPosterior([], torch.zeros(1, 0), [mean], draws, diagnostics={}, statistics={})
    assert shown(sampled).tags.count("th") == 8


def test_observed_variables_are_told(model: pgnn.BayesianNetwork) -> None:
    assert shown(model.query(evidence={"b": 1})).text.count("observed") == 1
    assert "observed" not in shown(model.query()).text


def test_what_did_not_converge_is_said_first(model: pgnn.BayesianNetwork) -> None:
    posterior = model.query(evidence={"b": 1})
    posterior.diagnostics = {"converged": torch.tensor([False]), "iterations": 3}
    text = shown(posterior).text
    assert text.index("not converged") < text.index("probability")


def test_best_assignments_and_marginals_show_their_numbers(model: pgnn.BayesianNetwork) -> None:
    best = model.most_probable({"b": 1}, k=3)
    reader = shown(best)
    assert reader.tags.count("tr") == 1 + len(best)
    assert f"{float(best[0].log_prob):.6g}" in reader.text
    assert NASTY in reader.text
    rows = shown(model.most_probable({"b": [1, 0]}, k=2))
    assert rows.tags.count("tr") == 5
    assert "0.25" in shown(model.query()[NASTY]).text
    assert "the first of 2" in shown(model.query(evidence={"b": [0, 1]})[NASTY]).text


def test_records_leave_out_what_was_not_set_and_use_words() -> None:
    record = History(learner="EM(prior=None, tolerance=0.1, engine=None)", log_likelihood=-3.0)
    text = shown(record).text
    assert "EM(tolerance=0.1)" in text
    assert "log likelihood" in text


def test_names_of_steps_are_words_and_tables_stand_in_their_rows() -> None:
    chain = shown(pgnn.HiddenMarkovModel(["fair", "loaded"], {"x": 3}))
    assert "('state'" not in chain.text
    network = pgnn.BayesianNetwork([("p", "q")], states={"p": 2, "q": 2})
    reader = shown(network)
    assert reader.text.index("table of p") < reader.text.index("table of q")
    assert reader.tags.count("details") == 3


def test_programs_show_sites_plates_and_parents() -> None:
    def survey() -> None:
        mean = pyro.sample("mean", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate(NASTY, 40):
            group = pyro.sample("group", dist.Bernoulli(torch.tensor(0.3)))
            pyro.sample("answer", dist.Normal(mean[0] + group, 1.0), obs=torch.zeros(40))

    text = " ".join(shown(pgnn.Program(survey)).text.split())
    assert text.startswith("Program, 3 sites, 1 plate, 0 free parameters")
    assert "mean real; 2 cells group" in text
    assert f"group 0, 1 {NASTY}: 40 answer observed data {NASTY}: 40 mean, group" in text
    assert "no tables" not in text


def test_programs_without_tables_say_why() -> None:
    def branching() -> None:
        if pyro.sample("coin", dist.Bernoulli(torch.tensor(0.5))):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    program = pgnn.Program(branching)
    assert program.obstacle
    assert f"queries execute the program: {program.obstacle}" in shown(program).text


def test_engines_and_learners_show_settings_and_what_was_changed() -> None:
    text = " ".join(shown(pgnn.Gibbs(samples=100, seed=3)).text.split())
    assert text.startswith("Gibbs Gibbs sampling: Markov chains that draw one element")
    assert "samples 100 2000 thin 1 temperature 1.0 seed 3 None" in text
    assert shown(pgnn.Gibbs(samples=100, seed=3)).tags.count("b") == 3
    assert shown(pgnn.Gibbs()).tags.count("b") == 1
    assert "tolerance 0.1 1e-07" in " ".join(shown(pgnn.EM(tolerance=0.1)).text.split())
    assert "optimizer adam" in " ".join(shown(pgnn.Variational()).text.split())
    assert " ".join(shown(_Uniform()).text.split()) == "_Uniform no settings"


class _Uniform(pgnn.inference.Engine):
    pass


def test_every_engine_and_learner_is_shown() -> None:
    exported = [getattr(pgnn, name) for name in pgnn.__all__]
    kinds = (pgnn.inference.Engine, pgnn.inference.Learner)
    seen = 0
    for kind in [x for x in exported if isinstance(x, type) and issubclass(x, kinds)]:
        if not dataclasses.is_dataclass(kind):
            continue
        try:
            settings: Any = kind()
        except (TypeError, pgnn.PgnnError):  # has settings without defaults
            continue
        reader = shown(settings)
        assert kind.__name__ in reader.text
        assert reader.tags.count("tr") >= len(dataclasses.fields(settings))
        assert "`" not in reader.text
        assert " at 0x" not in reader.text
        seen += 1
    assert seen > 20
