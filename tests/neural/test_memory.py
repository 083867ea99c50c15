"""Memories: lookups and a tape, against their equations; two facts that must be put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pgnn
from pgnn import neural
from pgnn.errors import ModelError


def test_two_hops_written_out() -> None:
    torch.manual_seed(0)
    network = neural.MemoryNetwork(words=7, size=4, sentences=5, hops=2).double()
    story = torch.tensor([[[1, 2, 0], [3, 4, 5], [0, 0, 0]]])
    question = torch.tensor([[6, 2, 0]])
    tables = [w.weight for w in network.words]
    u = tables[0][6] + tables[0][2]
    for hop in range(2):
        m, c = (
            torch.stack([tables[k][s[s > 0]].sum(0) for s in story[0, :2]]) + network.ages[k, 2:4]
            for k in (hop, hop + 1)
        )
        u = u + (m @ u).softmax(0) @ c
    torch.testing.assert_close(network({"story": story, "question": question})[0], u)


def test_no_story_changes_nothing() -> None:
    network = neural.MemoryNetwork(words=7, size=4, sentences=5)
    none, question = torch.zeros(1, 2, 3).long(), torch.tensor([[6, 2, 0]])
    torch.testing.assert_close(
        network({"story": none, "question": question}), network.words[0](question)
    )
    with pytest.raises(ModelError, match=r"at most 5 sentences, got \(1, 6, 3\)"):
        network({"story": torch.ones(1, 6, 3), "question": question})


def test_where_somebody_went_last() -> None:
    """Stories "person went place"; the question is where a person is: the latest such sentence."""
    rng = np.random.default_rng(0)
    people, places, rows, length = 3, 4, 300, 4
    who = rng.integers(0, people, (rows, length))
    where = rng.integers(0, places, (rows, length))
    asked = who[np.arange(rows), rng.integers(0, length, rows)]
    last = np.array([max(t for t in range(length) if who[r, t] == asked[r]) for r in range(rows)])
    story = np.stack([1 + who, 1 + people + where], -1)
    inputs = {"story": torch.from_numpy(story), "question": torch.from_numpy(1 + asked[:, None])}
    torch.manual_seed(0)
    body = neural.MemoryNetwork(1 + people + places, 16, sentences=length, hops=2)
    place = pgnn.Variable("place", places)
    network = pgnn.Neural(
        place, [], neural.Readout(body, places), inputs=["story", "question"],
        features=pgnn.ByName(),
    )  # fmt: skip
    model = pgnn.BayesianNetwork([], [network])
    answer = where[np.arange(rows), last]
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02), batch_size=40, max_iterations=40
    )
    model.fit(
        {"place": answer[:200]}, inputs={n: x[:200] for n, x in inputs.items()}, learner=learner,
        seed=0, progress=False,
    )  # fmt: skip
    told = model.query("place", inputs={n: x[200:] for n, x in inputs.items()})["place"].probs
    assert float((told.argmax(-1).numpy() == answer[200:]).mean()) > 0.9


def place(orders: Tensor, cells: Tensor, before: Tensor) -> Tensor:
    """Weights of the places of one machine, written out."""
    width, number = cells.shape[1], len(cells)
    key, (strength, keep), moves, sharp = (
        orders[:width], orders[width : width + 2], orders[width + 2 : width + 5], orders[-1]
    )  # fmt: skip
    alike = torch.stack([key @ c / (key.norm() * c.norm()).clamp_min(1e-8) for c in cells])
    found = ((1 + strength.exp()).log() * alike).softmax(0)
    weights = keep.sigmoid() * found + (1 - keep.sigmoid()) * before
    shift = moves.softmax(0)
    moved = [
        sum(shift[k + 1] * weights[(i - k) % number] for k in (-1, 0, 1)) for i in range(number)
    ]
    powers = torch.stack(moved) ** (1 + (1 + sharp.exp()).log())
    return powers / powers.sum()


def test_the_machine_written_out_for_two_steps() -> None:
    torch.manual_seed(0)
    cell = neural.TuringMachineCell(2, 5, places=4, width=3).double()
    for p in cell.parameters():
        torch.nn.init.normal_(p)
    first, second = torch.randn(2, 1, 2).double()
    state = cell(first)
    cells, read = torch.full((4, 3), 1e-6).double(), torch.zeros(3).double()
    reading = writing = torch.tensor([1.0, 0, 0, 0]).double()
    for x in (first, second):
        hidden = torch.tanh(cell.controller(torch.cat([x[0], read])))
        orders = cell.writer(hidden)
        erase, add = orders[9:12].sigmoid(), orders[12:]
        writing = place(orders[:9], cells, writing)
        cells = torch.stack([c * (1 - w * erase) + w * add for c, w in zip(cells, writing)])  # noqa: B905
        reading = place(cell.reader(hidden), cells, reading)
        read = reading @ cells
        shown = torch.tanh(cell.out(torch.cat([hidden, read])))
    after = cell(second, state)
    for ours, theirs in zip(after, (shown, cells, reading, writing, read), strict=True):
        torch.testing.assert_close(ours[0], theirs, atol=1e-7, rtol=1e-6)
    run = neural.Recurrent(cell)(torch.stack([first, second], 1))
    torch.testing.assert_close(run[:, 1], after.shown)


def test_a_tape_that_is_told_to_copies() -> None:
    """Orders set by hand: write the input, move on; the places then hold what was read in."""
    cell = neural.TuringMachineCell(2, 2, places=5, width=2)
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.controller.weight[:, :2] = 0.01 * torch.eye(2)  # small: tanh is linear there
        cell.writer.weight[10:, :] = 100 * torch.eye(2)
        cell.writer.bias[3] = -30.0  # keep the place, not its content
        cell.writer.bias[4:7] = torch.tensor([-30.0, -30.0, 30.0])  # and move on
        cell.writer.bias[7], cell.writer.bias[8:10] = 5.0, 30.0
    x, state = torch.tensor([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.6]]), None
    for step in x:
        state = cell(step[None], state)
    torch.testing.assert_close(state.cells[0, 1:4], x, atol=1e-3, rtol=0)


def test_the_copy_task() -> None:
    """Taught on up to five rows of bits, it copies eight: it has learned to walk along the tape."""
    torch.manual_seed(0)
    machine = neural.Recurrent(neural.TuringMachineCell(4, 32, places=16, width=8))
    out = nn.Linear(32, 3)
    parameters = [*machine.parameters(), *out.parameters()]
    steps = torch.optim.Adam(parameters, lr=0.005)

    def copied(length: int, rows: int) -> tuple[Tensor, Tensor]:
        bits = (torch.rand(rows, length, 3) < 0.5).float()
        x = torch.zeros(rows, 2 * length + 1, 4)
        x[:, :length, :3], x[:, length, 3] = bits, 1.0  # the bits, then a mark
        return out(machine(x)[:, length + 1 :]), bits

    for _ in range(250):
        logits, bits = copied(int(torch.randint(1, 6, ())), 16)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, bits)
        steps.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        steps.step()
    with torch.no_grad():
        logits, bits = copied(8, 100)
    assert float(((logits > 0) == (bits > 0)).float().mean()) > 0.99
