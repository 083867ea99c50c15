"""Networks in a network: a picture and a word, both made by a digit among ordinary tables.

A digit makes a picture, by a convolutional network that also sees a hidden style, and its name, by
a recurrent network that also sees a language. Some rows say which digit it is, some in which
language, others have no word or no picture. Everything is learned together by the log-likelihood,
in which what was not observed is summed out exactly; then any is asked about given any other.
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

ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
GERMAN = ["null", "eins", "zwei", "drei", "vier", "funf", "sechs", "sieben", "acht", "neun"]
LETTERS, STYLES, SIZE = "abcdefghijklmnopqrstuvwxyz.", 8, (1, 14, 14)
STATES = {"digit": 10, "style": STYLES, "language": ["English", "German"], "even": 2}
EDGES = ["digit even", "digit image", "style image", "digit word", "language word"]
HOLES = {"digit": 0.6, "even": 0.6, "language": 0.5, "word": 0.2, "image": 0.2}


def network() -> pgnn.BayesianNetwork:
    """Digit and style make the picture, digit and language the word; the digit its parity."""
    digit, style, language = (pgnn.Variable(n, STATES[n]) for n in ("digit", "style", "language"))
    image, word = pgnn.Variable("image", shape=SIZE), pgnn.Variable("word", shape=(7,))
    hidden = neural.mlp(10 + STYLES, 64, 784)
    shape, paint = nn.Unflatten(1, (16, 7, 7)), nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)
    painter = nn.Sequential(*hidden, nn.ReLU(), shape, paint)
    picture = pgnn.Neural(image, [digit, style], painter, head=pgnn.BernoulliHead(SIZE))
    speller = neural.SequenceHead((7,), len(LETTERS), context=16, hidden=48)
    spelling = pgnn.Neural(word, [digit, language], neural.mlp(12, 32, 16), head=speller)
    edges = [tuple(edge.split()) for edge in EDGES]
    return pgnn.BayesianNetwork(edges, [picture, spelling], states=STATES)


def rows(folder: object, number: int, rng: np.random.Generator) -> dict[str, object]:
    """Complete rows: pictures as they were written, names with one letter in eight wrong."""
    pixels, digit = digits(folder, number)
    image = nn.functional.avg_pool2d(torch.from_numpy(pixels).float().reshape(-1, 1, 28, 28), 2)
    language, word = rng.integers(0, 2, number), torch.full((number, 7), torch.nan)
    for row, k in enumerate(digit):
        letters = [LETTERS.index(c) for c in (ENGLISH, GERMAN)[language[row]][k]]
        typed = [rng.integers(26) if rng.random() < 1 / 8 else c for c in letters]
        word[row, : len(typed) + 1] = torch.tensor([*typed, 26])
    told = {"digit": digit.astype(float), "even": 1.0 - digit % 2, "language": language + 0.0}
    return told | {"image": (image > 0.5).float().numpy(), "word": word.numpy()}


def main(argv: list[str] | None = None, number: int = 4000, passes: int = 20) -> dict[str, float]:
    """Return the shares of unseen rows of which something is told right, by what was seen."""
    args, rng = arguments(__doc__ or "", argv), np.random.default_rng(0)
    data, half = rows(args.data / "images" / "mnist", number, rng), number // 2
    observed = {name: np.array(x[:half]) for name, x in data.items()}
    for name, share in HOLES.items():
        observed[name][rng.random(half) < share] = np.nan
    torch.manual_seed(0)
    steps = {"optimizer": lambda p: torch.optim.Adam(p, 0.01), "batch_size": 50}
    adam = pgnn.Gradient(**steps, max_iterations=passes)
    model, right = network().fit(observed, learner=adam, seed=0), {}
    for target, clues in [("digit", "image"), ("digit", "word"), ("digit", "image word"),
                          ("language", "word"), ("even", "image word")]:  # fmt: skip
        posterior = model.query(target, {name: data[name][half:] for name in clues.split()})
        best = posterior[target].probs.argmax(-1).numpy()
        right[f"{target} from {clues}"] = float((best == data[target][half:]).mean())
        print(f"{target} from {clues:<12} {right[f'{target} from {clues}']:.1%} right")
    figure, axes = plt.subplots(STYLES, 10, figsize=(10, 9))
    for (style, digit), ax in np.ndenumerate(axes):
        causes = {"digit": torch.tensor([digit]), "style": torch.tensor([style])}
        with torch.no_grad():
            shown = model.conditionals["image"].distribution(causes).mean[0, 0].numpy()
        ax.imshow(shown, cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        both = {"digit": [digit] * 2, "language": ["English", "German"]}
        drawn: Tensor = model.sample(1, both, seed=2)["word"][0].int()
        spelled = ["".join(LETTERS[c] for c in row).split(".")[0] for row in drawn.tolist()]
        axes[0, digit].set_title("\n".join(spelled), fontsize=10)
    save(figure, args.out / "picture_and_word.png")
    return right


if __name__ == "__main__":
    main()
