"""Conditional random fields beside CRFsuite, on the sentences of CoNLL-2000.

``python -m benchmarks.conditional_random_field FOLDER --crfsuite PYTHON`` with the folder of the
sentences and the interpreter of an environment that has python-crfsuite. Both learn from the same
attributes with the same penalty, one after the other, on one core; times are CPU time and include
reading. Objectives are the negative log-likelihood and the sum of the squares of the weights.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

PEER = """
import json, pickle, sys, time
import pycrfsuite
train, labels, test = pickle.load(open(sys.argv[1], "rb"))
begin = time.process_time()
trainer = pycrfsuite.Trainer(verbose=False)
for x, y in zip(train, labels):
    trainer.append(x, y)
trainer.set_params({"c1": 0.0, "c2": 1.0, "max_iterations": int(sys.argv[2])})
trainer.train(sys.argv[1] + ".model")
learned = time.process_time() - begin
last = trainer.logparser.last_iteration
begin = time.process_time()
tagger = pycrfsuite.Tagger()
tagger.open(sys.argv[1] + ".model")
predicted = [tagger.tag(x) for x in test]
print(json.dumps([learned, last["num"], last["loss"], time.process_time() - begin, predicted]))
"""


def ours(train: Any, labels: Any, test: Any, iterations: int) -> list[Any]:
    """Seconds of learning, iterations, objective, seconds of tagging, and the labels."""
    from pgnn.estimators import SequenceTagger

    begin = time.process_time()
    tagger = SequenceTagger(max_iterations=iterations).fit(train, labels)
    learned = time.process_time() - begin
    history = tagger.model_.history
    loss = -history["trace"]["objective"][-1] * len(train)
    begin = time.process_time()
    predicted = tagger.predict(test)
    return [learned, history["iterations"], loss, time.process_time() - begin, predicted]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with conll2000_train.txt.gz and _test")
    parser.add_argument("--crfsuite", help="interpreter that has python-crfsuite")
    parser.add_argument("--sentences", type=int, default=8936)
    parser.add_argument("--iterations", type=int, default=1000)
    args = parser.parse_args()
    from chunking import read

    from pgnn.metrics import chunk_scores

    train, labels = read(args.folder / "conll2000_train.txt.gz", args.sentences)
    test, true = read(args.folder / "conll2000_test.txt.gz", 2012)
    found = {"pgnn": ours(train, labels, test, args.iterations)}
    if args.crfsuite:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "data")
            file.write_bytes(pickle.dumps((train, labels, test)))
            command = [args.crfsuite, "-c", PEER, str(file), str(args.iterations)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found["CRFsuite"] = json.loads(done.stdout)
    print("| who | learning | iterations | objective | tagging | F1 |")
    print("| --- | --: | --: | --: | --: | --: |")
    for who, (learned, number, loss, tagged, predicted) in found.items():
        f1 = 100 * chunk_scores(true, predicted).f1
        print(f"| {who} | {learned:.1f} s | {number} | {loss:.2f} | {tagged:.2f} s | {f1:.2f} |")


if __name__ == "__main__":
    main()
