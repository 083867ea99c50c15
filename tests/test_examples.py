"""The examples run, and find what they say they find."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pgnn

Example = Callable[..., dict[str, float]]
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Example:
    """Run an example by name; its pictures go to a temporary folder."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name: str, **options: Any) -> dict[str, float]:
        module: ModuleType = importlib.import_module(name)
        folders = ["--data", str(data_dir), "--out", str(tmp_path)]
        found: dict[str, float] = module.main(folders, **options)
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        return found

    return run


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_length(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 90


def test_denoise_letter(example: Example) -> None:
    errors = example("denoise_letter")
    threshold = errors.pop("threshold")
    assert threshold > 0.15
    assert len(errors) == 4
    assert max(errors.values()) < 0.01


def test_stereo(example: Example) -> None:
    errors = example("stereo")
    assert errors["each pixel alone"] > 0.4
    assert errors["Potts field"] < 0.06


def test_learn_couplings(example: Example) -> None:
    """With 4,000 samples of standard error about 1 / 63, times what neighbours already tell."""
    errors = example("learn_couplings")
    assert errors["exact likelihood"] < 0.022
    assert errors["pseudo-likelihood"] < 0.022
    assert errors["likelihood by belief propagation"] < 0.1


def test_casino(example: Example) -> None:
    """The loaded die of the book shows a six half of the time; among 300 rolls it was rolled 97."""
    found = example("casino")
    assert found["book"] > 0.9
    assert found["learned"] > 0.89
    assert abs(found["six"] - 0.5) < 2.5 * (0.25 / 97) ** 0.5


def test_cpg_islands(example: Example) -> None:
    """Islands are a sixth of the letters; in them CG is 2.6 times as frequent."""
    found = example("cpg_islands")
    assert found["sensitivity"] > 0.85
    assert found["precision"] > 0.45
    assert found["right"] > 0.82
    assert found["CG after C inside"] > 2.4 * found["CG after C outside"]


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_geyser(example: Example) -> None:
    found = example("geyser")
    assert found["BIC"] == 4
    assert found["held out"] == 4
    assert found["long after short"] > 0.95


def test_chorales(example: Example) -> None:
    """A short run; ``benchmarks/README.md`` has the figures of the long one."""
    found = example("chorales", epochs=8, states=4)
    assert found["plain"] < 9.6
    assert found["neural"] < 9.0
    assert found["neural"] < found["plain"]


def test_chunking(example: Example) -> None:
    """The whole corpus gives .936; three hundred sentences are enough for most noun phrases."""
    figures = example("chunking", sentences=300)
    assert figures["f1"] > 0.84
    assert figures["np"] > 0.84
    assert 0.8 < figures["certainty"] < 1.0


def test_segment_images(example: Example) -> None:
    """Neighbours that are weighed well halve what is wrong."""
    right = example("segment_images")
    assert right["alone"] < 0.62
    assert right["likelihood"] > 0.75
    assert right["margin"] > 0.75


def test_alarm_missing(example: Example) -> None:
    found = example("alarm_missing", rows=600)
    assert found["EM"] > found["most frequent state"] + 0.5
    assert found["no holes"] - 0.3 < found["EM"] < found["truth"]
    assert found["filled in"] > found["guessed"] + 0.08


def test_sachs(example: Example) -> None:
    found = example("sachs", every=3)
    assert found["agreed network"] > found["no edges"] + 0.5
    assert found["agreed network, right"] > found["no edges, right"] + 0.03


def test_spam(example: Example) -> None:
    found = example("spam", repeats=1)
    assert found["EM, 20"] > 0.93
    assert found["self-training, 20"] > 0.9 > found["labels alone, 20"]


def test_digits_50_labels(example: Example) -> None:
    found = example("digits_50_labels", count=2500)
    assert found["Gaussian field"] > 0.8
    assert found["Gaussian field"] > max(found["softmax regression"], found["naive Bayes"]) + 0.08


def test_impute_table(example: Example) -> None:
    found = example("impute_table", draws=5)
    assert found["mixture"] < 0.6 * found["column mean"]
    assert found["labels"] > 0.8
    assert abs(found["pooled"] - found["slope"]) < 3 * found["pooled error"]


def test_tracking_gaps(example: Example) -> None:
    found = example("tracking_gaps")
    assert found["smoother"] < 0.8 * found["straight lines"]
    assert 1.5 < found["noise"] < 2.5


def test_recall_letters(example: Example) -> None:
    found = example("recall_letters", units=150)
    assert found["PseudoInverse"] > 0.9
    assert found["load 0.02"] == 1.0
    assert found["load 0.22"] < 0.8


def test_digit_machines(example: Example) -> None:
    found = example("digit_machines", rows=1000, epochs=3, hidden=30)
    assert -300 < found["low"] < found["high"] + 1.0
    assert max(found[n] for n in ("mixture", "restricted machine", "deep belief network")) < 0.3


def test_digits_100_labels(example: Example) -> None:
    right = example("digits_100_labels", rows=1200, epochs=4, steps=150, layers=(60,))
    assert min(right.values()) > 0.5


def test_digits_few_labels(example: Example) -> None:
    wrong = example("digits_few_labels", rows=1000, epochs=3, maps=8)
    assert wrong["all images"] < min(wrong["labels alone"], 0.6)


def test_news_topics(example: Example) -> None:
    found = example("news_topics", epochs=2, hidden=8)
    assert found["belief network, bound"] > found["independent"] - 0.3


def test_lenet_digits(example: Example) -> None:
    assert example("lenet_digits", rows=1500, epochs=3, tests=500)["right"] > 0.6


def test_ring_of_eight(example: Example) -> None:
    """A generator that has learned nothing is about 2 away, the radius of the ring."""
    found = example("ring_of_eight", epochs=8)
    assert found["gradient penalty"] < 1.2
    assert found["non-saturating"] < 1.2


def test_digits_by_game(example: Example) -> None:
    """Uniform noise is 15 away from digits; a generator that makes one digit has evenness zero."""
    found = example("digits_by_game", rows=1000, epochs=6)
    assert found["distance of samples"] < 10.5
    assert found["evenness of samples"] > 0.5


def test_diagnosis(example: Example, data_dir: Path) -> None:
    """Evidence and marginals are those of the competition; of the last, those of the recursion."""
    found = example("diagnosis")
    folder = data_dir / "uai" / "pr_mar"
    diagnosis = importlib.import_module("diagnosis")
    for name in (f"Promedus_{k}" for k in (11, 13, 16, 24, 27)):
        reference = float((folder / f"{name}.uai.PR").read_text().split()[1])
        assert found[name] == pytest.approx(reference, abs=5e-5)
        assert found[f"{name}, rewritten"] < found[f"{name}, as published"]
        observed = pgnn.read_evidence(folder / f"{name}.uai.evid")
        gates = diagnosis.merged(diagnosis.recognised(pgnn.read(folder / f"{name}.uai")), observed)
        posterior = diagnosis.network(gates).query(None, observed)
        words = (folder / f"{name}.uai.MAR").read_text().split()
        for v in gates:  # two states and their probabilities, after the word and the count
            assert float(posterior[v].probs[1]) == pytest.approx(float(words[4 + 3 * v]), abs=1e-6)
    # inclusion and exclusion over the 15 findings present, with 45 digits
    assert found["Promedas_12"] == pytest.approx(-14.0880281506434, abs=1e-9)
    assert found["Promedas_12, rewritten"] < 16


def test_read_words(example: Example) -> None:
    """Few words: with all of them a third of the letters has to be corrected."""
    found = example("read_words", words=200)
    assert found["error"] < 0.7
    assert 0.0 < found["exact"] <= 1.0


def test_reverse_and_sort(example: Example) -> None:
    found = example("reverse_and_sort", examples=300, passes=15)
    assert found["reversed"] > 0.5
    assert found["sorted"] > 0.3  # one in 120 by chance, of five numbers
    assert found["best"] > 0.5


def test_shakespeare(example: Example) -> None:
    found = example("shakespeare", characters=60_000, hidden=64, passes=3)
    assert found["nats"] < 2.9 < 3.3 < found["table"]


def test_digit_manifold(example: Example) -> None:
    """Networks that have learned nothing are at about -550 nats."""
    found = example("digit_manifold", rows=1000, epochs=15, hidden=32)
    deep, weighted, flat = found.values()
    assert -260 < deep < weighted < -140
    assert -260 < flat < -140


def test_picture_and_word(example: Example) -> None:
    """A short run; the whole one tells more."""
    right = example("picture_and_word", number=600, passes=6)
    assert right["language from word"] > 0.7
    assert right["digit from image"] > 0.3


def test_cited_papers(example: Example) -> None:
    """The published figure of such a network on these papers is .815."""
    right = example("cited_papers", steps=30)
    assert right["graph"] > 0.75 > right["words alone"]


def test_frey_faces(example: Example) -> None:
    figures = example("frey_faces", epochs=6, hidden=50)
    assert min(figures["upside down"], figures["barred"]) > 0.8


def test_threshold_logic(example: Example) -> None:
    """Of N = 4 inputs; those of probability 0.1 are odd with (1 - 0.8^4) / 2."""
    found = example("threshold_logic")
    for name in ("deep", "flat"):
        assert found[f"{name} right"] == 1.0
        assert found[f"{name} back"] == pytest.approx(0.0)
        assert found[f"{name} odd"] == pytest.approx((1 - 0.8**4) / 2)
    assert (found["deep units"], found["flat units"]) == (3 * 3, 2**3 + 1)


def test_parity_automaton(example: Example) -> None:
    found = example("parity_automaton", steps=6)
    assert found["tables"] == found["recurrent"] == 1.0
    assert found["doubt"] < 1e-12
