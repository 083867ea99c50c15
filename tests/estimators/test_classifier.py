"""Models as classifiers and as features of scikit-learn: its own checks, and the same by hand."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import pgnn
from pgnn.errors import DataError, ModelError
from pgnn.estimators import Classifier, UnitFeatures

X, y = load_iris(as_frame=True, return_X_y=True)


@parametrize_with_checks([Classifier(), UnitFeatures(partial(pgnn.FactorAnalysis, 1))])
@pytest.mark.filterwarnings("ignore")  # of tiny data sets
def test_checks_of_scikit_learn(estimator: object, check: object) -> None:
    check(estimator)


def bayes() -> pgnn.NaiveBayes:
    return pgnn.NaiveBayes(None, dict.fromkeys(X, pgnn.Gaussian), name="species")


def test_naive_bayes_is_that_of_scikit_learn() -> None:
    ours, theirs = Classifier(bayes(), "species"), GaussianNB(var_smoothing=0.0)
    np.testing.assert_allclose(
        ours.fit(X, y).predict_proba(X), theirs.fit(X, y).predict_proba(X), atol=1e-8
    )
    assert (cross_val_score(ours, X, y) == cross_val_score(theirs, X, y)).all()
    array = Classifier(bayes(), "species").fit(X.to_numpy(), y)
    assert (array.predict(X.to_numpy()) == ours.predict(X)).all()
    vector = Classifier(pgnn.NaiveBayes(3, {"v": pgnn.Gaussian})).fit(X, y)
    alike = Classifier(pgnn.GaussianDiscriminant(target="class", form=pgnn.Full())).fit(X, y)
    np.testing.assert_allclose(vector.predict_proba(X), alike.predict_proba(X), atol=1e-8)
    weights = np.arange(150) % 2
    weighted = Classifier(bayes(), "species").fit(X, y, sample_weight=weights)
    half = Classifier(bayes(), "species").fit(X[weights == 1], y[weights == 1])
    np.testing.assert_allclose(weighted.predict_proba(X), half.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [-1, 0, 1], [5, 7, 9], [False, True, True]])
def test_labels_of_any_kind(labels: list) -> None:
    named = np.array(labels)[y]
    model = Classifier(bayes(), "species").fit(X, named)
    assert model.classes_.tolist() == sorted(set(labels))
    assert set(model.predict(X)) == set(labels)
    assert model.score(X, named) > 0.9


def test_declared_labels_are_those_of_the_model() -> None:
    named = np.array(["setosa", "versicolor", "virginica"])[y]
    states = ["virginica", "setosa", "versicolor"]  # in another order
    model = Classifier(pgnn.NaiveBayes(states, dict.fromkeys(X, pgnn.Gaussian)))
    assert model.fit(X, named).score(X, named) > 0.9
    assert model.predict_proba(X)[0].argmax() == 0
    with pytest.raises(ModelError, match=r"are not the states \['virginica'"):
        model.fit(X, y)


def test_other_models_classify() -> None:
    logistic = pgnn.LogisticRegression("species", prior=pgnn.NormalPrior(1.0))
    theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=10000).fit(X, y)
    ours = Classifier(logistic, "species").fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    size = pd.DataFrame({"long": (X.iloc[:, 2] > 3).astype(int), "wide": (X.iloc[:, 3] > 1.7)})
    net = pgnn.BayesianNetwork([("class", "long"), ("class", "wide"), ("long", "wide")])
    assert Classifier(net).fit(size, y).score(size, y) > 0.9
    rows = {"a": [0, 0, 1, 1] * 9, "b": [0, 1, 0, 1] * 9}
    trees = pgnn.ModelMixture([pgnn.ChowLiuTree({"a": 2, "b": 2}) for _ in range(2)])
    mixture = Classifier(trees, "component").fit(pd.DataFrame(rows), rows["a"])
    assert mixture.score(pd.DataFrame(rows), rows["a"]) == 1.0


def test_a_mixture_of_chains_classifies_sequences() -> None:
    rng = np.random.default_rng(0)
    names = ["low", "high"] * 8
    rows = [rng.normal(3.0 * (k == "high"), 1.0, size=6 + n % 3) for n, k in enumerate(names)]
    chains = [pgnn.HiddenMarkovModel(1, {"x": pgnn.Gaussian}) for _ in range(2)]
    model = Classifier(pgnn.SequenceMixture(chains, labels=["high", "low"]), "component")
    assert model.fit(rows, names).score(rows, names) == 1.0
    np.testing.assert_allclose(
        model.predict_proba(rows),
        model.model_.query("component", {"x": rows})["component"].probs.detach(),
    )


def test_models_are_cloned_searched_and_pickled() -> None:
    declared = bayes()
    model = Classifier(declared, "species")
    assert clone(model).get_params()["target"] == "species"
    fitted = model.fit(X, y)
    with pytest.raises(ModelError, match="not known"):
        _ = declared.variables  # the declaration is copied
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()
    kinds = [pgnn.GaussianDiscriminant(target="class", form=f) for f in (pgnn.Tied(), pgnn.Full())]
    search = GridSearchCV(Classifier(), {"model": kinds}).fit(X, y)
    scores = [cross_val_score(Classifier(k), X, y).mean() for k in kinds]
    assert search.cv_results_["mean_test_score"].tolist() == pytest.approx(scores)
    holes = X.mask(np.random.default_rng(0).random(X.shape) < 0.2)
    assert fitted.score(holes, y) > 0.85


def test_features_of_a_machine_are_those_by_hand() -> None:
    digits, digit = load_digits(return_X_y=True)
    rows, digit = (digits[:400] > 7).astype(float), digit[:400]
    learner = pgnn.ContrastiveDivergence(epochs=3)
    features = UnitFeatures(pgnn.RestrictedBoltzmannMachine(64, 20), None, learner, random_state=3)
    pipeline = make_pipeline(features, LogisticRegression(max_iter=500)).fit(rows, digit)
    machine = pipeline[0].model_
    hand = machine.query("hidden", {"visible": rows})["hidden"].probs[..., 1].detach().numpy()
    np.testing.assert_allclose(pipeline[0].transform(rows), hand, atol=1e-12)
    alone = LogisticRegression(max_iter=500).fit(hand, digit)
    assert pipeline.score(rows, digit) == alone.score(hand, digit) > 0.5
    assert features.get_feature_names_out()[:2].tolist() == ["unitfeatures0", "unitfeatures1"]
    again = clone(features).fit(rows)
    np.testing.assert_allclose(again.transform(rows), hand, atol=1e-12)


def test_features_of_several_layers_and_of_factors() -> None:
    rows = np.random.default_rng(0).integers(2, size=(60, 6))
    net = pgnn.DeepBeliefNetwork([6, 4, 3])
    assert UnitFeatures(net, random_state=0).fit_transform(rows).shape == (60, 3)
    assert UnitFeatures(net, "hidden1", random_state=0).fit_transform(rows).shape == (60, 4)
    factors = UnitFeatures(pgnn.FactorAnalysis(2), random_state=0).fit(X)
    expected = factors.model_.query("factors", {"x": X.to_numpy()})["factors"].mean
    np.testing.assert_allclose(factors.transform(X), expected.detach())


def test_what_is_asked_wrongly() -> None:
    with pytest.raises(ModelError, match="model must be a model such as"):
        Classifier(3).fit(X, y)
    two = pgnn.NaiveBayes(None, {"a": pgnn.Gaussian, "b": pgnn.Gaussian})
    with pytest.raises(DataError, match="X has 4 columns, the model 2 features"):
        Classifier(two).fit(X.to_numpy(), y)
    with pytest.raises(ModelError, match="UnitFeatures needs a model of a vector"):
        UnitFeatures(pgnn.BayesianNetwork([], states={"a": 2})).fit(X)
    with pytest.raises(ModelError, match="units='other' is none"):
        UnitFeatures(pgnn.FactorAnalysis(1), "other").fit(X)
    with pytest.raises(NotFittedError):
        Classifier(bayes()).predict(X)


def test_latent_variables_are_no_features() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=60)
    X = np.stack([y ^ (rng.random(60) < 0.2), y ^ (rng.random(60) < 0.3)], axis=1)
    states = {"class": 2, "h": 2, "a": 2, "b": 2}
    network = pgnn.BayesianNetwork(
        [("class", "h"), ("h", "a"), ("h", "b")], states=states, latents=["h"]
    )
    classifier = Classifier(network, learner=pgnn.EM(max_iterations=50), random_state=0)
    assert classifier.fit(X, y).score(X, y) > 0.6


def test_targets_must_be_discrete() -> None:
    network = pgnn.BayesianNetwork([("a", "class")], {"class": pgnn.LinearGaussian})
    with pytest.raises(pgnn.PgnnError, match="'class'"):
        Classifier(network).fit(pd.DataFrame({"a": [0.0, 1.0, 2.0]}), [0, 1, 0])


@pytest.mark.parametrize("kind", ["bayes", "discriminant", "logistic", "mixture"])
def test_the_target_is_that_of_the_model(kind: str) -> None:
    X, y = load_iris(as_frame=True, return_X_y=True)
    model = {
        "bayes": lambda: pgnn.NaiveBayes(3, dict.fromkeys(X, pgnn.Gaussian), name="target"),
        "discriminant": lambda: pgnn.GaussianDiscriminant(target="target"),
        "logistic": lambda: pgnn.LogisticRegression("target", prior=pgnn.NormalPrior(1.0)),
        "mixture": lambda: pgnn.Mixture(3, dict.fromkeys(X, pgnn.Gaussian), name="target"),
    }[kind]
    ours, given = Classifier(model()).fit(X, y), Classifier(model(), target="target").fit(X, y)
    assert ours.target_ == "target"
    np.testing.assert_array_equal(ours.predict_proba(X), given.predict_proba(X))
    assert ours.score(X, y) > 0.9


def test_the_winner_of_a_search_is_told_by_its_prior() -> None:
    priors = [pgnn.NormalPrior(1e-4), pgnn.NormalPrior(1.0)]
    models = [pgnn.LogisticRegression("target", prior=p) for p in priors]
    search = GridSearchCV(Classifier(), {"model": models}, cv=3).fit(
        *load_iris(return_X_y=True, as_frame=True)
    )
    assert "prior=NormalPrior(" in repr(search.best_params_["model"])
    assert repr(models[0]) != repr(models[1])
    assert "prior" not in repr(pgnn.LogisticRegression("target"))


def test_sparse_counts_of_words_in_a_pipeline() -> None:
    texts = ["free prize now", "call me later", "free cash", "see you at home"]
    labels = ["spam", "ham", "spam", "ham"]
    model = pgnn.NaiveBayes(None, {"words": pgnn.Multinomial})
    pipeline = make_pipeline(CountVectorizer(), Classifier(model)).fit(texts, labels)
    dense = make_pipeline(
        CountVectorizer(), FunctionTransformer(lambda x: x.toarray(), accept_sparse=True),
        Classifier(model),
    ).fit(texts, labels)  # fmt: skip
    new = ["free call", "home"]
    np.testing.assert_allclose(pipeline.predict_proba(new), dense.predict_proba(new), atol=1e-12)
    assert pipeline.predict(texts).tolist() == labels
    counts = CountVectorizer().fit_transform(texts)
    with pytest.raises(TypeError, match="dense data is required"):  # a column for each feature
        Classifier(pgnn.NaiveBayes(None, dict.fromkeys("ab", pgnn.Gaussian))).fit(counts, labels)
