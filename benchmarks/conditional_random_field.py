"""Conditional random fields beside CRFsuite and pytorch-crf.

``python -m benchmarks.conditional_random_field FOLDER --peers PYTHON`` with the folder of the
sentences of CoNLL-2000 and the interpreter of an environment that has python-crfsuite (and
pytorch-crf with torch).

Both learn from the same attributes with the same penalty, in turn, each in a process of its own on
one core, and medians are shown. Times are CPU time: imports, then the whole call with what was read
in Python's lists, then tagging; memory is the most of the process with the sentences in it.
Objectives are the negative log-likelihood and the sum of the squares of the weights. With
``--mappings`` the attributes of a word are a dictionary. Batches of given scores are compared with
pytorch-crf: log-likelihood with gradient, and best paths, the median of several calls. What is not
installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

BEGIN = """
import json, pickle, statistics, sys, time
iterations, passes = int(sys.argv[2]), int(sys.argv[3])
def clock(call):
    begin = time.process_time()
    result = call()
    return time.process_time() - begin, result
begin = time.process_time()
"""
PGNN = """
import pgnn
from pgnn.estimators import SequenceTagger
imported = time.process_time() - begin
train, labels, test = pickle.load(open(sys.argv[1], "rb"))
learner = pgnn.Perceptron(max_iterations=passes) if passes else None
tagger = SequenceTagger(max_iterations=iterations, learner=learner)
learned, _ = clock(lambda: tagger.fit(train, labels))
history = tagger.model_.history
loss = 0.0 if passes else -history["trace"]["objective"][-1] * len(train)
number = history["iterations"]
def tag():
    return tagger.predict(test)
"""
CRFSUITE = """
import pycrfsuite
imported = time.process_time() - begin
train, labels, test = pickle.load(open(sys.argv[1], "rb"))
trainer = pycrfsuite.Trainer("ap" if passes else "lbfgs", verbose=False)
def learn():
    for x, y in zip(train, labels):
        trainer.append(x, y)
    if passes:
        trainer.set_params({"max_iterations": passes})
    else:
        trainer.set_params({"c1": 0.0, "c2": 1.0, "max_iterations": iterations})
    trainer.train(sys.argv[1] + ".model")
learned, _ = clock(learn)
number, loss = trainer.logparser.last_iteration["num"], trainer.logparser.last_iteration["loss"]
def tag():
    tagger = pycrfsuite.Tagger()
    tagger.open(sys.argv[1] + ".model")
    return [tagger.tag(x) for x in test]
"""
END = """
runs = [clock(tag) for _ in range(5)]
tagged, predicted = statistics.median(t for t, _ in runs), runs[0][1]
# of this process alone: ru_maxrss of a child begins with what its parent had
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
memory = int(status["VmHWM"].split()[0]) / 1024
loss = 0.0 if passes else loss
print(json.dumps([[imported, learned, tagged, memory, number, loss], predicted]))
"""
SHAPES = [(256, 50, 20), (64, 200, 50)]
BATCHES = """
import json, statistics, sys, time
import torch
torch.set_num_threads(1)
B, T, K = map(int, sys.argv[1:4])
generator = torch.Generator().manual_seed(0)
scores = torch.randn(B, T, K, generator=generator).requires_grad_()
moves = torch.randn(K, K, generator=generator).requires_grad_()
labels = torch.randint(K, (B, T), generator=generator)
def median(call):
    call()
    times = []
    for _ in range(9):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return statistics.median(times)
"""
PGNN_BATCHES = """
from pgnn.inference.chains.chain import Chain
from pgnn.inference.chains.label_likelihood import LabelLikelihood
first = torch.zeros(K)
likelihood = LabelLikelihood(torch.full((B,), T), labels.flatten())
def learn():
    likelihood(scores.flatten(0, 1), first, moves).sum().backward()
def decode():
    Chain(first, moves.detach(), scores.detach()).best()
print(json.dumps([median(learn), median(decode)]))
"""
PYTORCH_CRF = """
from torchcrf import CRF
crf = CRF(K, batch_first=True)
crf.transitions.data.copy_(moves.detach())
def learn():
    crf(scores, labels).backward()
def decode():
    crf.decode(scores.detach())
print(json.dumps([median(learn), median(decode)]))
"""


def run(interpreter: str, code: str, *arguments: Any) -> Any:
    """What a script prints, in a process of its own with one thread."""
    command = [interpreter, "-c", code, *map(str, arguments)]
    alone = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environment = {**os.environ, **alone}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def interpreters(args: argparse.Namespace, peer: str, module: str) -> dict[str, str]:
    """Who is compared, with the interpreters; without a peer that is not installed."""
    found = {"pgnn": sys.executable}
    if args.peers is None:
        return found
    if subprocess.run([args.peers, "-c", f"import {module}"], capture_output=True).returncode:
        print(f"{peer} cannot be imported by {args.peers}: it is left out\n")
        return found
    return {**found, peer: args.peers}


def learning(args: argparse.Namespace) -> None:
    """Print a table of learners."""
    from chunking import read

    from pgnn.metrics import chunk_scores

    train, labels = read(args.folder / "conll2000_train.txt.gz", args.sentences)
    test, true = read(args.folder / "conll2000_test.txt.gz", 2012)
    if args.mappings:
        train, test = ([[*map(mapping, x)] for x in sentences] for sentences in (train, test))
    codes = {"pgnn": PGNN, "CRFsuite": CRFSUITE}
    who = interpreters(args, "CRFsuite", "pycrfsuite")
    print("| who | imports | learning | tagging | memory | iterations | objective | F1 |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data")
        file.write_bytes(pickle.dumps((train, labels, test)))
        for passes, repeats in zip((0, args.passes), args.repeats, strict=True):
            found: dict[str, list[Any]] = {name: [] for name in who}
            for _ in range(repeats):
                for name, interpreter in who.items():
                    code = BEGIN + codes[name] + END
                    found[name].append(run(interpreter, code, file, args.iterations, passes))
            for name, runs in found.items() if repeats else ():
                imported, learned, tagged, memory, number, loss = (
                    median(figures) for figures in zip(*(x for x, _ in runs), strict=True)
                )
                f1 = 100 * chunk_scores(true, runs[0][1]).f1
                print(f"| {name}, {'averaged perceptron' if passes else 'likelihood'} "
                      f"| {imported:.1f} s | {learned:.1f} s | {tagged:.2f} s | {memory:.0f} MB "
                      f"| {number:.0f} | {loss:.2f} | {f1:.2f} |", flush=True)  # fmt: skip


def mapping(names: list[str]) -> dict[str, Any]:
    """The attributes of a word as a dictionary, with texts, a truth value and a number."""
    pairs = (name.partition("=") for name in names)
    return {"bias": 1.0, **{key: value or True for key, _, value in pairs}}


def batches(args: argparse.Namespace) -> None:
    """Print a table of batches of given scores."""
    who = interpreters(args, "pytorch-crf", "torchcrf")
    codes = {"pgnn": PGNN_BATCHES, "pytorch-crf": PYTORCH_CRF}
    print("| B, T, K | who | log-likelihood and gradient | best paths |")
    print("| --- | --- | --: | --: |")
    for shape in SHAPES:
        for name, interpreter in who.items():
            learn, decode = run(interpreter, BATCHES + codes[name], *shape)
            print(
                f"| {shape} | {name} | {1e3 * learn:.1f} ms | {1e3 * decode:.1f} ms |", flush=True
            )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with conll2000_train.txt.gz and _test")
    parser.add_argument("--peers", help="interpreter that has python-crfsuite and pytorch-crf")
    parser.add_argument("--sentences", type=int, default=8936)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=10, help="of the averaged perceptron")
    parser.add_argument("--repeats", type=int, nargs=2, default=[1, 5], metavar=("L", "P"),
                        help="runs of either learner: likelihood, averaged perceptron")  # fmt: skip
    parser.add_argument("--mappings", action="store_true", help="attributes are dictionaries")
    args = parser.parse_args()
    batches(args)
    learning(args)


if __name__ == "__main__":
    main()
