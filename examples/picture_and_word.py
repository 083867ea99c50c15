"""Networks in a network: a picture and a word, both made by a digit among ordinary tables.

A digit makes a picture, by a convolutional network that also sees a hidden style, and its name, by
a recurrent network that also sees a language. Few rows say which digit it is, half of them in which
language, some have no word or no picture. Everything is learned together by the log-likelihood, in
which what was not observed is summed out exactly; then any of them is asked about given any other.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import arguments, save
from digits_50_labels import digits
from torch import Tensor, nn

import pgnn
from pgnn import neural

NAMES = {
    "English": "zero one two three four five six seven eight nine".split(),
    "German": "null eins zwei drei vier funf sechs sieben acht neun".split(),
}
LETTERS, STYLES, SIDE, LONGEST = "abcdefghijklmnopqrstuvwxyz.", 6, 14, 7


def network() -> pgnn.BayesianNetwork:
    """Digit and style make the picture, digit and language the word; the digit its parity."""
    digit, style = pgnn.Variable("digit", 10), pgnn.Variable("style", STYLES)
    language = pgnn.Variable("language", [*NAMES])
    image, word = pgnn.Variable("image", shape=(1, SIDE, SIDE)), pgnn.Variable("word", shape=(7,))
    painter = nn.Sequential(
        nn.Linear(10 + STYLES, 128), nn.ReLU(), nn.Linear(128, 784), nn.ReLU(),
        nn.Unflatten(1, (16, 7, 7)), nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
    )  # fmt: skip
    speller = neural.SequenceHead((LONGEST,), len(LETTERS), context=16, hidden=48)
    picture = pgnn.Neural(image, [digit, style], painter, head=pgnn.BernoulliHead(image.shape))
    spelling = pgnn.Neural(word, [digit, language], neural.mlp(12, 32, 16), head=speller)
    edges = [("digit", "even"), ("digit", "image"), ("style", "image"), ("digit", "word"),
             ("language", "word")]  # fmt: skip
    states = {"digit": 10, "style": STYLES, "language": [*NAMES], "even": 2}
    return pgnn.BayesianNetwork(edges, [picture, spelling], states=states)


def rows(folder: object, number: int, rng: np.random.Generator) -> dict[str, object]:
    """Complete rows: pictures as they were written, names with one letter in eight wrong."""
    pixels, digit = digits(folder, number)
    image = torch.from_numpy(pixels).float().reshape(-1, 1, 28, 28)
    language = rng.integers(0, 2, number)
    word = torch.full((number, LONGEST), torch.nan)
    for row, k in enumerate(digit):
        text = NAMES[[*NAMES][language[row]]][k]
        wrong = rng.random(len(text)) < 1 / 8
        typed = [rng.choice([*LETTERS[:-1]]) if w else c for c, w in zip(text, wrong, strict=True)]
        word[row, : len(text) + 1] = torch.tensor([LETTERS.index(c) for c in [*typed, "."]])
    return {"digit": digit.astype(float), "language": language.astype(float), "even": 1.0 - digit % 2,
            "image": (nn.functional.avg_pool2d(image, 2) > 0.5).float(), "word": word}  # fmt: skip


def main(argv: list[str] | None = None, number: int = 4000, passes: int = 12) -> dict[str, float]:
    """Return the shares of unseen rows whose digit, and whose language, is told right."""
    args, rng = arguments(__doc__ or "", argv), np.random.default_rng(0)
    data, half = rows(args.data / "images" / "mnist", number, rng), number // 2
    learned = {name: np.array(x[:half]) for name, x in data.items()}
    for name, share in (
        ("digit", 0.9),
        ("even", 0.9),
        ("language", 0.5),
        ("word", 0.2),
        ("image", 0.2),
    ):
        learned[name][rng.random(half) < share] = np.nan
    torch.manual_seed(0)
    model = network()
    learner = pgnn.Gradient(
        optimizer=lambda p: torch.optim.Adam(p, lr=0.01), batch_size=50, max_iterations=passes
    )
    model.fit(learned, learner=learner, seed=0)
    right = {}
    for target, seen in (("digit", ["image"]), ("digit", ["word"]), ("digit", ["image", "word"]),
                         ("language", ["word"]), ("even", ["image", "word"])):  # fmt: skip
        posterior = model.query(target, {name: data[name][half:] for name in seen})
        best = posterior[target].probs.argmax(-1).numpy()
        right[f"{target} from {' and '.join(seen)}"] = float((best == data[target][half:]).mean())
    for what, share in right.items():
        print(f"{what:<28} {share:.1%} right")
    draw(model, args.out / "picture_and_word.png")
    return right


def draw(model: pgnn.BayesianNetwork, path: object) -> None:
    """What each digit looks like in each style, and how it is spelled."""
    figure, axes = plt.subplots(STYLES, 10, figsize=(10, 7))
    for (style, digit), ax in np.ndenumerate(axes):
        cause = {"digit": torch.tensor([digit]), "style": torch.tensor([style])}
        with torch.no_grad():
            ax.imshow(model.conditionals["image"].distribution(cause).mean[0, 0], cmap="gray_r")
        ax.set_xticks([]), ax.set_yticks([])
    for digit in range(10):
        drawn: Tensor = model.sample(1, {"digit": [digit, digit], "language": [*NAMES]}, seed=2)[
            "word"
        ]
        words = ["".join(LETTERS[int(c)] for c in word).split(".")[0] for word in drawn[0]]
        axes[0, digit].set_title("\n".join(words), fontsize=10)
    save(figure, path)


if __name__ == "__main__":
    main()
