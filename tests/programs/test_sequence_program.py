"""Programs of models over time: against unrolled networks, the models' own answers, and Pyro."""

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate

import pgnn
from pgnn import Program
from pgnn.errors import EvidenceError, Unsupported

STEPS = 4
ROLLS = [0, 1, 1, 0]
HEIGHTS = [0.3, -1.0, 2.0, 0.5]


def tables(seed, *sizes):
    return np.random.default_rng(seed).dirichlet(np.ones(sizes[-1]), size=sizes[:-1])


def chain(emissions=None):
    return pgnn.HiddenMarkovModel(
        3, emissions or {"roll": tables(0, 3, 2)}, tables(1, 1, 3)[0], tables(2, 3, 3)
    )


def normal(child, parents):
    made = pgnn.Gaussian(child, parents)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.linspace(0.0, 1.0, p.numel()).reshape(p.shape))
    return made


def regressive(child, parents):
    before = pgnn.Variable((child.name, -1))
    return pgnn.LinearGaussian(child, [before, *parents], [[0.5]] * 3, [0.0, 1.0, -1.0])


def network():
    return pgnn.DynamicBayesianNetwork(
        [(("rain", -1), "rain"), ("rain", "wet"), (("wet", -1), "wet"), ("wet", "observed")],
        {"rain": tables(3, 2, 2), "wet": tables(4, 2, 3, 3), "observed": tables(5, 3, 2)},
        initial={"rain": [0.5, 0.5], "wet": tables(6, 2, 3)},
        states={"rain": ["no", "yes"]},
    )


def semi_markov():
    return pgnn.HiddenSemiMarkovModel(3, {"roll": tables(0, 3, 2)}, tables(7, 3, 3))


MODELS = {
    "chain": (chain, {"roll": ROLLS}),
    "normal": (lambda: chain({"height": normal}), {"height": HEIGHTS}),
    "network": (network, {"observed": ROLLS}),
    "semi-Markov": (semi_markov, {"roll": ROLLS}),
}


@pytest.fixture(autouse=True)
def private_randomness():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def close(got, expected, tolerance=1e-9):
    torch.testing.assert_close(
        torch.as_tensor(got), torch.as_tensor(expected), rtol=tolerance, atol=tolerance
    )


def by_step(observed, rows=False):
    return {
        (n, t): torch.as_tensor(x)[..., t] if rows else x[t]
        for n, x in observed.items()
        for t in range(STEPS)
    }


def held(program, observed):
    data = {program.sites[n]: torch.as_tensor(x) for n, x in observed.items()}
    return poutine.condition(program, data=data)


@pytest.mark.parametrize("name", MODELS)
def test_program_and_unrolled_network_answer_alike(name):
    make, observed = MODELS[name]
    model = make()
    program, twin = Program(model.program(lengths=STEPS)), model.unroll(STEPS)
    assert program.obstacle is None
    assert list(program.variables.items()) == list(twin.variables.items())
    names = {s: n for n, s in model.program(lengths=STEPS).sites.items()}
    assert {(names[a], names[b]) for a, b in program.graph.edges} == set(twin.graph.edges)
    targets = [n for n, v in twin.variables.items() if v.is_discrete]
    for rows in ({}, by_step(observed), dict([*by_step(observed).items()][:2])):
        one, other = program.query(targets, rows), twin.query(targets, rows)
        close(one.log_evidence, other.log_evidence)
        for target in targets:
            if target not in rows:
                close(one[target].probs, other[target].probs)


@pytest.mark.parametrize("name", MODELS)
def test_program_and_model_answer_alike(name):
    make, observed = MODELS[name]
    model = make()
    program = Program(model.program(lengths=STEPS))
    smoothed = model.smooth(observed)
    found = program.query([(n, t) for n in model.hidden for t in range(STEPS)], by_step(observed))
    close(found.log_evidence, smoothed.log_evidence)
    for n in model.hidden:
        close(torch.stack([found[n, t].probs for t in range(STEPS)]), smoothed[n].probs)


@pytest.mark.parametrize("name", MODELS)
def test_pyro_enumerates_the_program(name):
    make, observed = MODELS[name]
    model = make()
    program = model.program(lengths=STEPS)
    enumerated = config_enumerate(held(program, by_step(observed)), default="parallel")
    found = -TraceEnum_ELBO(max_plate_nesting=1).loss(enumerated, lambda: None)
    close(found, float(model.smooth(observed).log_evidence.detach()))


def test_sequences_of_several_lengths_are_rows_of_a_plate():
    model = chain()
    rolls = torch.tensor([[0, 1, 1, 0], [1, -1, -1, -1], [1, 1, 0, -1]])
    lengths = [4, 1, 3]
    program = model.program(lengths=lengths)
    read = Program(program)
    assert read.variables["state", 2] == pgnn.Variable(("state", 2), 3, (3,))
    found = read.query(None, by_step({"roll": rolls}, rows=True))
    each = [model.smooth({"roll": x[:n]}) for x, n in zip(rolls, lengths, strict=True)]
    close(found.log_evidence, sum(p.log_evidence for p in each))
    for row, (own, n) in enumerate(zip(each, lengths, strict=True)):
        for t in range(n):
            close(found["state", t].probs[row], own["state"].probs[t])
    conditioned = held(program, by_step({"roll": rolls.clamp(min=0)}, rows=True))
    close(Program(conditioned).query([]).log_evidence, found.log_evidence)
    trace = poutine.trace(conditioned).get_trace()
    trace.compute_log_prob()
    for t in range(STEPS):
        ended = torch.tensor(lengths) <= t
        assert not trace.nodes[program.sites["roll", t]]["log_prob"][ended].any()


def test_what_begins_as_given_must_be_observed():
    model = chain({"height": regressive})
    program = model.program(lengths=STEPS)
    found = Program(held(program, by_step({"height": HEIGHTS})))
    close(found.query([]).log_evidence, model.smooth({"height": HEIGHTS}).log_evidence)
    with pytest.raises(Unsupported, match="'height' has no distribution at the first step"):
        program()
    twin = model.unroll(STEPS).program()
    again = Program(held(twin, by_step({"height": HEIGHTS})))
    close(again.query([]).log_evidence, found.query([]).log_evidence)


def driven():
    state = pgnn.Variable("state", 2)
    before = pgnn.Variable(("state", -1), 2)
    move = pgnn.Softmax(state, [before], inputs={"u": 2})
    with torch.no_grad():
        for p in move.parameters():
            p.add_(torch.linspace(-1.0, 1.0, p.numel()).reshape(p.shape))
    return pgnn.HiddenMarkovModel(2, {"roll": tables(0, 2, 2)}, [0.4, 0.6], move)


def test_inputs_at_each_step():
    model = driven()
    u = torch.randn(3, STEPS, 2, dtype=torch.float64)
    rolls = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
    expected = model.smooth({"roll": rolls}, inputs={"u": u})
    program = Program(model.program({"u": u}, lengths=[STEPS] * 3))
    found = program.query(None, by_step({"roll": rolls}, rows=True))
    close(found.log_evidence, expected.log_evidence.sum())
    close(found["state", 2].probs, expected["state"].probs[:, 2])
    single = Program(model.program({"u": u[1]}, lengths=STEPS))
    close(
        single.query([], by_step({"roll": rolls[1]})).log_evidence,
        expected.log_evidence[1],
    )
    with pytest.raises(EvidenceError, match=r"'u' must be \(3, ...\), with a value for each step"):
        model.program({"u": u[1]}, lengths=3)


def test_parameters_are_the_models_own():
    model = pgnn.HiddenSemiMarkovModel(2, {"roll": 2}, 3)
    with torch.no_grad():  # where states are alike, durations do not matter
        for p in model.parameters():
            p.add_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
    program = Program(model.program(lengths=STEPS))
    assert {id(p) for p in program.parameters()} == {id(p) for p in model.parameters()}
    observed = by_step({"roll": ROLLS})
    before = program.query([], observed).log_evidence
    (slope,) = torch.autograd.grad(before, [*model.durations.parameters()])
    assert bool(slope.any())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
    close(program.query([], observed).log_evidence, model.smooth({"roll": ROLLS}).log_evidence)


def test_draws_score_as_the_model_scores_them():
    model = network()
    program = model.program(lengths=[STEPS, STEPS])
    trace = poutine.trace(program).get_trace()
    values = trace.nodes["_RETURN"]["value"]
    drawn = {n: torch.stack([values[n, t] for t in range(STEPS)], -1) for n in model.variables}
    close(trace.log_prob_sum(), model.log_prob(drawn).sum())


@pytest.mark.parametrize("lengths", [None, 0, [], [3, 0]])
def test_lengths_are_positive_numbers(lengths):
    with pytest.raises(EvidenceError, match="lengths"):
        chain().program(lengths=lengths)


def test_nothing_is_left_in_pyros_store():
    before = dict(pyro.get_param_store().get_state()["params"])
    chain().program(lengths=2)()
    assert dict(pyro.get_param_store().get_state()["params"]) == before


def test_undirected_models_have_no_program():
    model = pgnn.MarkovRandomField([("a", "b")], {("a", "b"): [[1.0, 2.0], [3.0, 1.0]]})
    with pytest.raises(
        Unsupported, match=r"MarkovRandomField has no Pyro program, since it is not directed"
    ):
        model.program()
