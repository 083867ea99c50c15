"""Files that pyAgrum writes are read with its own posteriors."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgnn.errors import DataError
from pgnn.io import read, write
from pgnn.io.uai import read_uai

SIZES = {"a": 2, "b": 3, "c": 4, "d": 3, "e": 2}
# The scopes are in the order of a set; the comments say how the numbers run, the fastest first.
MARKOV = """MARKOV
3 # nbr Nodes
2 3 2 
2 # nbr Factors 
3 1 0 2 
2 0 2 

12 # {0, 2, 1}
  0 1
  2 3
  4 5
  6 7
  8 9
  10 11

4 # {0, 2}
  1 1
  1 1
"""  # noqa: W291
JOINT = np.arange(12.0).reshape(3, 2, 2).transpose(2, 0, 1) / 66  # of the variables 0, 1, 2


def _marginals(text: str) -> list[np.ndarray]:
    answer = read_uai(io.StringIO(text)).query()
    return [answer[k].probs.numpy() for k in range(3)]


def test_comments_give_the_order_of_markov_files() -> None:
    for k, found in enumerate(_marginals(MARKOV)):
        expected = JOINT.sum(axis=tuple({0, 1, 2} - {k}))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_other_comments_change_nothing() -> None:
    plain = re.sub(r" *#.*", "", MARKOV)
    expected = _marginals(plain)
    other = plain.replace("MARKOV\n3", "MARKOV # by hand\n3 # variables")
    other = other.replace("\n12\n", "\n# the first\n12 # numbers\n")
    for found, value in zip(_marginals(other), expected, strict=True):
        np.testing.assert_array_equal(found, value)
    assert not np.allclose(expected[2], JOINT.sum(axis=(0, 1)))


def test_one_comment_does_not_reverse_the_parents() -> None:
    text = "BAYES\n3\n2 2 2\n3\n1 0\n1 1\n3 0 1 2\n2 .5 .5\n2 .5 .5\n8 .1 .9 .2 .8 .3 .7 .4 .6\n"
    expected = read_uai(io.StringIO(text)).query(2, {0: 0, 1: 1})[2].probs
    np.testing.assert_allclose(expected.numpy(), [0.2, 0.8])
    found = read_uai(io.StringIO(text.replace("BAYES", "BAYES # three coins")))
    np.testing.assert_allclose(found.query(2, {0: 0, 1: 1})[2].probs.numpy(), [0.2, 0.8])


@pytest.mark.parametrize("comment", ["", "# {2, 0}", "# {2, 0, 3}", "# {2, 2, 0}", "# table"])
def test_incomplete_comments_are_refused(comment: str) -> None:
    with pytest.raises(DataError, match=r":8:1: expected a comment with the variables \(1, 0, 2\)"):
        read_uai(io.StringIO(MARKOV.replace("# {0, 2, 1}", comment)))


def _check(model: Any, expected: dict[str, np.ndarray], names: dict[str, Any]) -> None:
    answer = model.query()
    for name, probs in expected.items():
        np.testing.assert_allclose(answer[names[name]].probs.numpy(), probs, atol=2e-6)


def test_markov_networks_of_pyagrum(tmp_path: Path) -> None:
    gum = pytest.importorskip("pyagrum")
    gum.initRandom(9)
    net = gum.MarkovRandomField()
    for name, size in SIZES.items():
        net.add(gum.LabelizedVariable(name, name, size))
    for scope in ("cab", "dc", "be", "e", "daec"):
        net.addFactor(list(scope))
    net.generateFactors()
    net.saveUAI(str(tmp_path / "net.uai"))
    inference = gum.ShaferShenoyMRFInference(net)
    inference.makeInference()
    expected = {v: inference.posterior(v).toarray() for v in SIZES}
    _check(read(tmp_path / "net.uai"), expected, dict(zip(SIZES, range(5), strict=True)))


@pytest.mark.parametrize("ending", ["bif", "bifxml", "net", "dsl", "xdsl", "uai"])
def test_networks_of_pyagrum(tmp_path: Path, ending: str) -> None:
    gum = pytest.importorskip("pyagrum")
    gum.initRandom(7)
    net = gum.fastBN("a[2]->c[4]<-b[3];a->d[3]<-c;b->d;d->e[2]<-a;c->e")
    expected = {v: gum.getPosterior(net, target=v, evs={}).toarray() for v in SIZES}
    path = str(tmp_path / f"net.{ending}")
    gum.saveBN(net, path)
    numbers = {v: net.idFromName(v) for v in SIZES}
    names = numbers if ending == "uai" else dict(zip(SIZES, SIZES, strict=True))
    model = read(path)
    _check(model, expected, names)
    write(model, path)
    _check(read(path), expected, names)
    if ending not in ("uai", "xdsl"):  # what pyAgrum does not read as the format has it
        back = gum.loadBN(path)
        for name, probs in expected.items():
            found = gum.getPosterior(back, target=name, evs={}).toarray()
            np.testing.assert_allclose(found, probs, atol=2e-6)
