"""Mixtures of models are answered by their components, as by the whole mixture."""

import numpy as np

import pgnn


def test_components_are_asked_for_the_targets_alone() -> None:
    rng = np.random.default_rng(0)
    bits = pgnn.Variable("z", 2, shape=(3,))

    def network() -> pgnn.BayesianNetwork:
        tables = {"a": rng.dirichlet([1, 1, 1]), "b": rng.dirichlet([1, 1], 3)}
        flips = pgnn.Bernoulli(bits, [pgnn.Variable("b", 2)], rng.random((2, 3)))
        return pgnn.BayesianNetwork([("a", "b"), ("b", "z")], {**tables, "z": flips})

    model = pgnn.ModelMixture([network(), network()], [0.3, 0.7])
    rows = {"z": [[1, -1, 0], [-1, -1, 1]]}
    for names in (["b", "component", "a"], [("z", 1), "a"], ["component"], ["z", "b"], []):
        answer = model.query(names, rows)
        expected = model.query(names, rows, engine=pgnn.JunctionTree())
        assert answer.variables == expected.variables
        for name in (v.name for v in expected.variables):
            np.testing.assert_allclose(answer.probs(name), expected.probs(name), atol=1e-12)
        np.testing.assert_allclose(answer.log_evidence, expected.log_evidence, atol=1e-12)
    assert model.explain(["a"]).num_pruned == model.components[0].explain(["a"]).num_pruned == 4


def test_no_rows_have_answers_without_rows() -> None:
    tables = {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]}
    parts = [pgnn.BayesianNetwork([("a", "b")], tables) for _ in range(2)]
    model = pgnn.ModelMixture(parts, [0.4, 0.6])
    assert model.query(None, {"a": []})["b"].probs.shape == (0, 2)
    assert model.most_probable({"a": []}).log_prob.shape == (0,)
    assert parts[0].most_probable({"a": []}).log_prob.shape == (0,)
