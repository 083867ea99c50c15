"""Conditional random fields beside CRFsuite and pytorch-crf.

``python -m benchmarks.conditional_random_field FOLDER --peers PYTHON`` with the folder of the
sentences of CoNLL-2000 and the interpreter of an environment that has python-crfsuite (and
pytorch-crf with torch).

Both learn from the same attributes with the same penalty, one after the other, each in a process of
its own on one core; times are CPU time and include reading, memory is the most of the process with
the sentences in it. Objectives are the negative log-likelihood and the sum of the squares of the
weights. Batches of given scores are compared with pytorch-crf: log-likelihood with gradient, and
best paths, the median of several calls.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

BEGIN = """
import json, pickle, sys, time
train, labels, test = pickle.load(open(sys.argv[1], "rb"))
iterations, passes = int(sys.argv[2]), int(sys.argv[3])
begin = time.process_time()
"""
PGNN = """
import pgnn
from pgnn.estimators import SequenceTagger
learner = pgnn.Perceptron(max_iterations=passes) if passes else None
tagger = SequenceTagger(max_iterations=iterations, learner=learner).fit(train, labels)
learned = time.process_time() - begin
history = tagger.model_.history
loss = 0.0 if passes else -history["trace"]["objective"][-1] * len(train)
number = history["iterations"]
begin = time.process_time()
predicted = tagger.predict(test)
"""
CRFSUITE = """
import pycrfsuite
trainer = pycrfsuite.Trainer("ap" if passes else "lbfgs", verbose=False)
for x, y in zip(train, labels):
    trainer.append(x, y)
if passes:
    trainer.set_params({"max_iterations": passes})
else:
    trainer.set_params({"c1": 0.0, "c2": 1.0, "max_iterations": iterations})
trainer.train(sys.argv[1] + ".model")
learned = time.process_time() - begin
number, loss = trainer.logparser.last_iteration["num"], trainer.logparser.last_iteration["loss"]
begin = time.process_time()
tagger = pycrfsuite.Tagger()
tagger.open(sys.argv[1] + ".model")
predicted = [tagger.tag(x) for x in test]
"""
END = """
tagged = time.process_time() - begin
# of this process alone: ru_maxrss of a child begins with what its parent had
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
memory = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([learned, number, 0.0 if passes else loss, tagged, memory, predicted]))
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
    """What a script prints, in a process of its own."""
    command = [interpreter, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def learning(args: argparse.Namespace) -> None:
    """Print a table of learners."""
    from chunking import read

    from pgnn.metrics import chunk_scores

    train, labels = read(args.folder / "conll2000_train.txt.gz", args.sentences)
    test, true = read(args.folder / "conll2000_test.txt.gz", 2012)
    print("| who | learning | iterations | objective | tagging | memory | F1 |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data")
        file.write_bytes(pickle.dumps((train, labels, test)))
        for passes in (0, args.passes):
            for who, code in (("pgnn", PGNN), ("CRFsuite", CRFSUITE)):
                interpreter = sys.executable if who == "pgnn" else args.peers
                if interpreter is None:
                    continue
                found = run(interpreter, BEGIN + code + END, file, args.iterations, passes)
                learned, number, loss, tagged, memory, predicted = found
                name = f"{who}, averaged perceptron" if passes else f"{who}, likelihood"
                f1 = 100 * chunk_scores(true, predicted).f1
                print(f"| {name} | {learned:.1f} s | {number} | {loss:.2f} | {tagged:.2f} s "
                      f"| {memory:.0f} MB | {f1:.2f} |", flush=True)  # fmt: skip


def batches(args: argparse.Namespace) -> None:
    """Print a table of batches of given scores."""
    print("| B, T, K | who | log-likelihood and gradient | best paths |")
    print("| --- | --- | --: | --: |")
    for shape in SHAPES:
        for who, code in (("pgnn", PGNN_BATCHES), ("pytorch-crf", PYTORCH_CRF)):
            interpreter = sys.executable if who == "pgnn" else args.peers
            if interpreter is None:
                continue
            learn, decode = run(interpreter, BATCHES + code, *shape)
            print(f"| {shape} | {who} | {1e3 * learn:.1f} ms | {1e3 * decode:.1f} ms |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with conll2000_train.txt.gz and _test")
    parser.add_argument("--peers", help="interpreter that has python-crfsuite and pytorch-crf")
    parser.add_argument("--sentences", type=int, default=8936)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=10, help="of the averaged perceptron")
    args = parser.parse_args()
    batches(args)
    learning(args)


if __name__ == "__main__":
    main()
