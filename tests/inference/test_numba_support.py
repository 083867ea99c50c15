"""Without numba, or without its compiler, every verb works, slowly, and says so once."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import pgnn

ROOT = Path(__file__).resolve().parents[2]
SEEN = {"smoke": "yes", "xray": "yes"}
ROWS = {"smoke": torch.tensor([0, -1, 1]), "dysp": torch.tensor([-1, 0, 1])}
WITHOUT = {
    "numba cannot be imported": "import sys; sys.modules['numba'] = None",
    "NUMBA_DISABLE_JIT is set": "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'",
}
ALONE = """
import json
from tests.inference.test_numba_support import ask_everything, warnings_of
found = {}
found["warnings"] = warnings_of(lambda: found.update(ask_everything()))
print(json.dumps(found))
"""


def asia() -> Any:
    return pgnn.read(ROOT / "pgnn" / "networks" / "asia.bif")


def ask_everything() -> dict[str, Any]:
    """What each verb says, as numbers and labels."""
    model = asia()
    compiled = model.compile(["lung"], ["smoke", "xray"])
    return {
        "query": model.query("lung", SEEN)["lung"].probs.tolist(),
        "rows": model.query(["tub", "lung"], ROWS)["lung"].probs.tolist(),
        "soft": model.query("lung", {"xray": torch.tensor([0.2, 0.9])}).log_evidence.item(),
        "joint": model.query("lung", SEEN).joint("lung", "tub").values.tolist(),
        "most probable": dict(model.most_probable(SEEN)),
        "three best": [dict(best) for best in model.most_probable(SEEN, k=3)],
        "marginal map": dict(model.most_probable(SEEN, targets=["lung", "tub"])),
        "log prob": model.log_prob(ROWS).tolist(),
        "log partition": pgnn.MarkovRandomField(model.factors()).log_partition().item(),
        "treewidth": model.explain("lung", SEEN).treewidth,
        "compiled": compiled(torch.tensor([[0, 0], [1, 0]]))[0].tolist(),
        **learn_and_draw(model),
    }


def learn_and_draw(model: Any) -> dict[str, Any]:
    drawn, given = model.sample(200, seed=1), model.sample(50, SEEN, seed=1)
    assert torch.equal(given.codes, model.sample(50, SEEN, seed=1).codes)
    assert (given["smoke"] == 0).all()
    states = {name: variable.states for name, variable in model.variables.items()}
    learned = pgnn.BayesianNetwork(model.graph, states=states)
    learned.fit(drawn.frame(), learner=pgnn.MaximumLikelihood(pgnn.Laplace()))
    learned.requires_grad_().log_prob(ROWS).sum().backward()
    return {
        "drawn": drawn.codes.tolist(),
        "learned": learned.log_prob(ROWS).tolist(),
        "gradients": [p.grad.flatten().tolist() for p in learned.parameters()],
    }


def warnings_of(work: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(warning.message) for warning in caught]


def close(ours: Any, theirs: Any) -> bool:
    """Whether nested answers agree: floats up to rounding, all else exactly."""
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(close, ours, theirs))
    return bool(ours == (pytest.approx(theirs, abs=1e-12) if isinstance(ours, float) else theirs))


@pytest.fixture(scope="module", params=WITHOUT)
def alone(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Everything asked in an interpreter where nothing can be compiled."""
    code = WITHOUT[request.param] + ALONE
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"why": request.param}


def test_answers_are_the_same(alone: dict[str, Any]) -> None:
    ours = ask_everything()
    assert ours.keys() == alone.keys() - {"warnings", "why"}
    for question, answer in ours.items():
        assert close(answer, alone[question]), question


def test_it_is_said_once(alone: dict[str, Any]) -> None:
    (warning,) = alone["warnings"]
    assert alone["why"] in warning
    assert "slower torch code" in warning


def test_nothing_is_said_where_numba_is() -> None:
    assert warnings_of(lambda: asia().query("lung", SEEN)) == []
