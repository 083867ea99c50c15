"""Frames in partitions: the answers and fits are those of the same rows in one place."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pgnn
from pgnn.errors import DataError, EvidenceError, ModelError, Unsupported
from pgnn.evidence.partitioned_frame import PartitionedRows

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")

EDGES = [("cloudy", "rain"), ("cloudy", "sprinkler"), ("rain", "wet"), ("sprinkler", "wet")]
STATES = {name: ["no", "yes"] for name in ("cloudy", "rain", "sprinkler", "wet")}


@pytest.fixture(autouse=True)
def in_this_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def model() -> pgnn.BayesianNetwork:
    return pgnn.BayesianNetwork(
        EDGES,
        {
            "cloudy": [0.4, 0.6],
            "rain": [[0.8, 0.2], [0.3, 0.7]],
            "sprinkler": [[0.5, 0.5], [0.9, 0.1]],
            "wet": [[[0.95, 0.05], [0.1, 0.9]], [[0.2, 0.8], [0.01, 0.99]]],
        },
        states=STATES,
    )


@pytest.fixture(scope="module")
def rows(model: pgnn.BayesianNetwork) -> pd.DataFrame:
    frame = model.sample(400, seed=0).frame().astype(str)
    return frame.set_index(np.arange(400) * 3)


@pytest.fixture(scope="module")
def holes(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.mask(np.random.default_rng(0).random(rows.shape) < 0.2)


def parts_of(frame: pd.DataFrame, number: int = 5) -> Any:
    return dd.from_pandas(frame, npartitions=number, sort=False)


def test_answers_are_those_of_the_rows(model: pgnn.BayesianNetwork, holes: pd.DataFrame) -> None:
    observed = holes[["wet", "sprinkler"]]
    parts = parts_of(observed)
    whole = model.query(["rain", "cloudy"], observed).frame()
    answer = model.query(["rain", "cloudy"], parts)
    assert [*answer.columns] == ["rain=no", "rain=yes", "cloudy=no", "cloudy=yes"]
    assert answer.npartitions == parts.npartitions
    np.testing.assert_allclose(answer.compute(), whole)
    assert (answer.compute().index == observed.index).all()
    best = model.most_probable(evidence=parts, targets=["rain"]).compute()
    pd.testing.assert_frame_equal(best, model.most_probable(observed, ["rain"]).frame())
    score = model.log_prob(parts).compute()
    np.testing.assert_allclose(score, model.log_prob(observed))


def test_empty_partitions_and_fields(model: pgnn.BayesianNetwork, holes: pd.DataFrame) -> None:
    none = parts_of(holes).map_partitions(lambda rows: rows[rows.index > 900])
    expected = holes[holes.index > 900]  # the first partitions have no rows
    field = pgnn.MarkovRandomField(
        [pgnn.TabularPotential(f.variables, f.values) for f in model.factors()]
    )
    np.testing.assert_allclose(field.log_prob(none).compute(), model.log_prob(expected))
    assert len(model.query("rain", none).compute()) == len(expected)


def test_counting_is_that_of_all_rows(rows: pd.DataFrame) -> None:
    weighted = rows.assign(weight=np.random.default_rng(1).integers(0, 3, len(rows)) + 0.5)
    learner = pgnn.MaximumLikelihood(pgnn.BDeu(2.0))
    whole = pgnn.BayesianNetwork(EDGES).fit(weighted, learner=learner, weights="weight")
    parts = pgnn.BayesianNetwork(EDGES)  # states from the data
    parts.fit(parts_of(weighted), learner=learner, weights="weight", progress=False)
    assert parts.variables == whole.variables
    for name, table in whole.conditionals.items():
        np.testing.assert_allclose(parts.conditionals[name].probs.detach(), table.probs.detach())
    assert parts.history["weight"] == whole.history["weight"]
    assert parts.history["log_likelihood"] == pytest.approx(whole.history["log_likelihood"])


def test_normal_features_are_learnt_from_sums() -> None:
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 2, 200)
    frame = pd.DataFrame({"class": kind, "x": rng.normal(3.0 * kind), "y": rng.normal(-1.0 * kind)})
    features = dict.fromkeys("xy", pgnn.Gaussian)
    whole = pgnn.NaiveBayes(2, features).fit(frame)
    parts = pgnn.NaiveBayes(2, features, shapes={"x": (), "y": ()}).fit(parts_of(frame))
    for name, numbers in whole.state_dict().items():
        if not name.endswith("centre"):
            np.testing.assert_allclose(parts.state_dict()[name], numbers, rtol=1e-9, atol=1e-9)
    assert parts.history["rows"] == 200


@pytest.mark.parametrize("restarts", [1, 3])
def test_em_is_that_of_all_rows(holes: pd.DataFrame, restarts: int) -> None:
    hidden = holes.drop(columns="cloudy")
    learner = pgnn.EM(restarts=restarts, max_iterations=40, tolerance=1e-4)
    whole = pgnn.BayesianNetwork(EDGES, states=STATES).fit(hidden, learner=learner, seed=1)
    parts = pgnn.BayesianNetwork(EDGES, states=STATES)
    parts.fit(parts_of(hidden), learner=learner, seed=1, progress=False)
    assert parts.history["iterations"] == whole.history["iterations"]
    assert parts.history["trace"]["log_likelihood"] == pytest.approx(
        whole.history["trace"]["log_likelihood"]
    )
    for name, table in whole.conditionals.items():
        np.testing.assert_allclose(
            parts.conditionals[name].probs.detach(), table.probs.detach(), rtol=1e-6, atol=1e-8
        )


def test_wrong_calls(model: pgnn.BayesianNetwork, holes: pd.DataFrame) -> None:
    parts = parts_of(holes, 2)
    with pytest.raises(EvidenceError, match=r"frame\.compute\(\)"):
        model.sample(2, parts)
    with pytest.raises(Unsupported, match="k=1"):
        model.most_probable(parts, k=2)
    with pytest.raises(EvidenceError, match="'snow'"):
        model.query("rain", parts.rename(columns={"wet": "snow"}))
    casino = pgnn.HiddenMarkovModel(2, {"roll": 6})
    with pytest.raises(Unsupported, match="sequences"):
        casino.log_prob(parts)
    new = pgnn.BayesianNetwork(EDGES, states=STATES)
    before = pickle.dumps(new.state_dict())
    with pytest.raises(DataError, match="missing"):
        new.fit(parts, progress=False)
    with pytest.raises(ModelError, match="hard="):
        new.fit(parts, learner=pgnn.EM(hard=True))
    with pytest.raises(DataError, match="every cell"):
        new.fit(parts_of(holes.mask(holes == holes), 2), learner=pgnn.EM())
    with pytest.raises(DataError, match="no rows"):
        new.fit(parts.map_partitions(lambda rows: rows[:0]), progress=False)
    assert pickle.dumps(new.state_dict()) == before


def test_errors_name_the_partition(model: pgnn.BayesianNetwork, rows: pd.DataFrame) -> None:
    wrong = rows.copy()
    wrong.iloc[250, 0] = "maybe"  # the eleventh of 80 rows, whose index is that of all rows
    told = r"in the partition with the index 720 to 957: column 'cloudy', row 10: .* 'maybe'"
    with pytest.raises(EvidenceError, match=told):
        model.query("rain", parts_of(wrong)).compute()
    with pytest.raises(DataError, match=told):
        pgnn.BayesianNetwork(EDGES, states=STATES).fit(parts_of(wrong), progress=False)


def test_models_and_answers_pickle_small(model: pgnn.BayesianNetwork, holes: pd.DataFrame) -> None:
    before = len(pickle.dumps(model))
    answer = model.query(["rain"], holes)
    numbers = sum(np.asarray(x).nbytes for x in answer.numbers)
    assert len(pickle.dumps(model)) <= before < 20_000
    assert len(pickle.dumps(answer)) < 3 * numbers + 20_000
    again = pickle.loads(pickle.dumps(answer))
    np.testing.assert_array_equal(again["rain"].probs, answer["rain"].probs)


@pytest.fixture
def two_processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers in processes of their own, which nobody starts again."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
    options = ["--no-nanny", "--nthreads=1", "--no-dashboard"]
    workers = [subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        with cluster, distributed.Client(cluster) as client, dask.config.set(scheduler=client):
            client.wait_for_workers(2)
            yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_lost_or_counted_twice_when_a_process_is_killed(
    two_processes: list[subprocess.Popen[bytes]],
    holes: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = parts_of(holes, 6)
    calls, summed = [], PartitionedRows.summed

    def killing(self: PartitionedRows, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:  # both hold rows, and two passes are over
            two_processes[0].kill()
        return summed(self, *arguments)

    monkeypatch.setattr(PartitionedRows, "summed", killing)
    learner = pgnn.EM(max_iterations=6, tolerance=1e-3)
    learnt = pgnn.BayesianNetwork(EDGES, states=STATES)
    learnt.fit(parts, learner=learner, seed=0, progress=False)
    assert len(calls) > 5
    whole = pgnn.BayesianNetwork(EDGES, states=STATES).fit(holes, learner=learner, seed=0)
    assert learnt.history["weight"] == whole.history["weight"] == len(holes)
    for name, table in whole.conditionals.items():
        np.testing.assert_allclose(
            learnt.conditionals[name].probs.detach(), table.probs.detach(), rtol=1e-6, atol=1e-8
        )
