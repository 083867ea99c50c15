"""What is no engine or learner is refused before anything is done."""

from typing import Any

import pytest

import pgnn
from pgnn.errors import ModelError


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
