"""Ctrl-C ends every verb soon, whenever it comes, and leaves everything as it was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pgnn.tape.recorder import _Recorder
from tests.inference.interrupted_verbs import short_verbs

ROOT = Path(__file__).parents[2]

# What others import late is imported first: a module whose import is interrupted stays half there.
# Shells ignore SIGINT behind ``&``, and so do their children: the handler is set here. It raises
# while a verb is asked, and at most twice; three levels of ``try`` hold two interrupts, of which
# one may come while the other is dealt with.
HANDLER = """
import json, os, random, signal, sys, threading, time, warnings
import scipy.ndimage, scipy.optimize, scipy.stats
import torch, torch._dynamo
from tests.inference.interrupted_verbs import long_verbs, short_verbs
warnings.simplefilter("ignore")
torch.set_num_threads(2)
left, sent = 0, 0.0

def stop(*_):
    global left
    if left:
        left -= 1
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, stop)

def send(pauses):
    for pause in pauses:
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)

def interrupted(ask, *pauses):
    global left, sent
    sent = time.perf_counter() + pauses[0]  # what holds Python's lock for long delays it
    thread = threading.Thread(target=send, args=(pauses,))
    thread.start()
    ended = False
    try:
        try:
            try:
                left = 2
                ask()
            finally:
                left = 0
        finally:
            left = 0
    except KeyboardInterrupt:
        ended = time.perf_counter()
    thread.join()
    return ended
"""

ATTEMPTS = 5

STREAM = (
    HANDLER
    + f"ATTEMPTS = {ATTEMPTS}\n"
    + """
PATIENCE = 5.0  # seconds in which an interrupt must have come through

def fresh(verb):
    model = verb.build()
    return model, model.history, {k: v.clone() for k, v in model.state_dict().items()}

def finished(model, history):
    # the interrupt may come after all was done, or in the next of several calls
    return model.history is not history

def modes():
    return torch.is_grad_enabled(), torch._C._len_torch_dispatch_stack()

def changed(model, history, state):
    return not finished(model, history) and any(
        not value.equal(state[name]) for name, value in model.state_dict().items()
    )

def ask_on(verb, times, held):
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        held[:] = fresh(verb)
        for _ in range(times):
            verb.ask(held[0])

told, verbs = {}, short_verbs()
random.seed(0)
for name in verbs:
    verb = verbs[name]
    for _ in range(2):  # while kernels are loaded
        model = verb.build()
        interrupted(lambda: verb.ask(model), 0.2 * random.random())
    expected = verb.numbers(verb.build())
    began = time.perf_counter()
    same = verb.numbers(verb.build()) == expected
    duration = time.perf_counter() - began
    times = 1 + int(0.02 / duration)  # what is soon over is asked again and again
    duration = min(times * duration, 0.2)
    hits, moved, wrong, left_on = 0, 0, 0, 0
    for count in range(ATTEMPTS):
        pauses = [random.random() * duration, random.random() * 0.001][: 1 + (count % 4 == 0)]
        held = list(fresh(verb))
        if interrupted(lambda: ask_on(verb, times, held), *pauses):
            hits += 1
            left_on += modes() != (True, 0)
            moved += changed(*held)
            if hits % 2:
                # what was fitted once starts the next fit elsewhere
                model = verb.build() if finished(*held[:2]) else held[0]
                wrong += verb.numbers(model) != expected
    told[name] = [hits, same, moved, wrong, left_on]
print(json.dumps(told))
"""
)

LATE = (
    HANDLER
    + """
told, verbs = {}, long_verbs()
for name in verbs:
    verb = verbs[name]
    verb.small.numbers(verb.small.build())
    model = verb.build()
    ended = interrupted(lambda: verb.ask(model), 0.5)
    told[name] = ended and ended - sent
print(json.dumps(told))
"""
)


def run(code: str) -> dict[str, Any]:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.returncode, done.stderr[-9000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_stream_of_interrupts_changes_nothing() -> None:
    told = run(STREAM)
    for name, (hits, same, moved, wrong, left_on) in told.items():
        # Python ignores what is raised while it removes something from memory
        assert hits >= ATTEMPTS - 1, f"{name} went on after {ATTEMPTS - hits} interrupts"
        assert same, f"{name} does not give the same numbers twice"
        assert moved == 0, f"{name} was interrupted and left the model changed"
        assert wrong == 0, f"{name} gives other numbers after interrupts"
        assert left_on == 0, f"{name} was interrupted and left modes of torch changed"


@pytest.mark.filterwarnings("ignore::pgnn.NotConverged")
def test_an_interrupt_as_operations_stop_being_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    verb = short_verbs()["MCMC"]
    expected = verb.numbers(verb.build())

    def interrupted(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(_Recorder, "__exit__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verb.ask(verb.build())
    assert torch._C._len_torch_dispatch_stack() == 0
    assert torch.is_grad_enabled()
    assert verb.numbers(verb.build()) == expected


def test_an_interrupt_as_gradients_are_enabled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    exits = 0

    def interrupted(*_: object) -> None:
        nonlocal exits
        exits += 1
        raise KeyboardInterrupt

    verb = short_verbs()["gradient"]
    model = verb.build()
    monkeypatch.setattr(torch.no_grad, "__exit__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verb.ask(model)
    assert exits
    assert torch.is_grad_enabled()


@pytest.mark.slow
def test_interrupts_end_long_calls_within_a_second() -> None:
    told = run(LATE)
    assert told
    for name, seconds in told.items():
        assert seconds, f"{name} was over before it was interrupted"
        assert seconds < 1.0, (name, seconds)
