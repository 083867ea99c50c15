"""Chorales of J. S. Bach: an HMM whose emission network also depends on the two previous chords."""

from __future__ import annotations

import gzip
import json

import numpy as np
import torch
from common import arguments, save
from torch import Tensor, nn

import pgnn
from pgnn import BernoulliHead, ByName

NOTES, KEYS = (88,), range(21, 109)


class Chord(nn.Module):
    """Logits of the notes for each state, given the chords before."""

    def __init__(self, states: int, hidden: int = 64) -> None:
        super().__init__()
        self.past, self.mood = nn.Linear(2 * 88, hidden), nn.Embedding(states, hidden)
        self.notes, self.level = nn.Linear(hidden, 88), nn.Embedding(states, 88)
        nn.init.normal_(self.mood.weight, std=0.3)
        nn.init.normal_(self.level.weight, -3.0, 0.1)
        self.drop = nn.Dropout(0.2)

    def forward(self, given: dict[str, Tensor]) -> Tensor:  # noqa: D102
        past = self.past(self.drop(given["past"])).unsqueeze(1)  # evaluated once for all states
        return self.notes(self.drop(torch.relu(past + self.mood.weight))) + self.level.weight


def main(argv: list[str] | None = None, epochs: int = 60, states: int = 32) -> dict[str, float]:
    """Return the negative log-likelihood for each chord of songs set apart, by model."""
    args = arguments(__doc__ or "", argv)
    with gzip.open(args.data / "hmm" / "jsb-chorales-quarter.json.gz") as file:
        parts = json.load(file)
    songs = {
        name: [np.array([np.isin(KEYS, c) for c in s], "f4") for s in parts[name]] for name in parts
    }
    plain = pgnn.HiddenMarkovModel(states, {"notes": pgnn.Bernoulli}, shapes={"notes": NOTES})
    learner = pgnn.EM(prior={"notes": pgnn.Beta(0.1, 1.0)}, tolerance=1e-4)
    plain.fit({"notes": songs["train"]}, learner=learner, seed=0, progress=False)

    torch.manual_seed(0)
    chord, state = pgnn.Variable("notes", shape=NOTES), pgnn.Variable("state", states)
    heads = BernoulliHead(NOTES), ByName()
    network = pgnn.Neural(chord, [state], Chord(states), ["past"], *heads, columns="state")
    stay = 0.8 / states + 0.2 * np.eye(states)
    neural = pgnn.HiddenMarkovModel(states, {"notes": network}, transitions=stay)
    learn(neural.requires_grad_(), songs["train"], epochs)
    with torch.no_grad():
        found = {n: score(m, songs["test"]) for n, m in {"plain": plain, "neural": neural}.items()}
        print(*(f"{name}: {-figure:.3f} nats a chord" for name, figure in found.items()), sep="\n")
        song = songs["test"][0]
        posterior = neural.smooth({"notes": song}, inputs={"past": past([song])})
    save(pgnn.plot.states(posterior).figure, args.out / "chorales.png")
    return {name: -figure.item() for name, figure in found.items()}


def past(songs: list[np.ndarray]) -> Tensor:
    """``(B, T, 176)`` the two chords before each one."""
    rolls = nn.utils.rnn.pad_sequence([torch.from_numpy(s) for s in songs], batch_first=True)
    return torch.cat([nn.functional.pad(rolls, (0, 0, n, -n)) for n in (1, 2)], dim=2)


def score(model: pgnn.HiddenMarkovModel, songs: list[np.ndarray]) -> Tensor:
    """Log-likelihood for each chord."""
    inputs = dict.fromkeys(model.input_names, past(songs))
    return model.log_prob({"notes": songs}, inputs=inputs).sum() / sum(map(len, songs))


def learn(model: pgnn.HiddenMarkovModel, songs: list[np.ndarray], epochs: int) -> None:
    """Raise the likelihood by Adam, in batches of 16 songs."""
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    slower = torch.optim.lr_scheduler.StepLR(optimizer, max(1, int(0.6 * epochs)), 0.3)
    for _ in range(epochs):
        for rows in torch.randperm(len(songs)).split(16):
            optimizer.zero_grad()
            score(model, [songs[r] for r in rows]).neg().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        slower.step()
    model.eval()


if __name__ == "__main__":
    main()
