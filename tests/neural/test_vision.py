"""Networks that look at images: counts, formulas, and that they learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pgnn
from pgnn import neural
from pgnn.errors import ModelError
from pgnn.neural.lenet import connection_table


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_lenet_has_the_parameters_and_neurons_of_its_authors():
    network = neural.LeNet5()
    layers = dict(network.named_children())
    names = ("c1", "s2", "c3", "s4", "c5", "f6")
    assert [count(layers[n]) for n in names] == [156, 12, 1516, 32, 48120, 10164]
    assert count(network) == 60000
    x, sizes = torch.zeros(1, 1, 28, 28), {}
    for name, layer in layers.items():
        x = layer(x)
        sizes[name] = x[0].numel()
    assert [sizes[n] for n in names] == [4704, 1176, 1600, 400, 120, 84]
    assert sizes["output"] == 10


def test_the_connection_table():
    """The last map sees all, six see three, nine see four; each input goes to ten maps."""
    table = connection_table()
    assert table.sum(0).tolist() == [3] * 6 + [4] * 9 + [6]
    assert table.sum(1).tolist() == [10] * 6
    assert len({tuple(column) for column in table.T.tolist()}) == 16


def test_lenet_is_the_posterior_of_a_one_node_model():
    torch.manual_seed(0)
    network, image = neural.LeNet5(), torch.rand(3, 1, 28, 28)
    digit = pgnn.Variable("digit", 10)
    model = pgnn.BayesianNetwork([], [pgnn.Neural(digit, [], network, inputs=["image"])])
    expected = network(image).softmax(1)
    found = model.query("digit", inputs={"image": image})["digit"].probs
    assert torch.allclose(found, expected, atol=1e-6)
    with pytest.raises(ModelError, match=r"at most 32 x 32 pixels, got shape \(1, 1, 40, 40\)"):
        network(torch.zeros(1, 1, 40, 40))


def test_a_table_of_connections_leaves_filters_out():
    torch.manual_seed(0)
    table = torch.tensor([[1, 0, 1], [1, 1, 0]])
    layer, x = neural.TableConv2d(table, 3), torch.randn(4, 2, 6, 6)
    dense = torch.zeros(3, 2, 3, 3)
    for cross, (k, p) in enumerate(torch.nonzero(table.T).tolist()):
        dense[k, p] = layer.weight[cross]
    assert count(layer) == 4 * 9 + 3
    assert torch.allclose(layer(x), functional.conv2d(x, dense, layer.bias), atol=1e-6)
    with pytest.raises(ModelError, match="an input for every output"):
        neural.TableConv2d(torch.tensor([[1, 0]]), 3)


def test_trainable_pooling():
    layer, x = neural.SubSample2d(2), torch.randn(3, 2, 4, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, 3.0]).reshape(2, 1, 1))
        layer.bias.copy_(torch.tensor([0.5, -1.0]).reshape(2, 1, 1))
    corner = x[:, :, :2, :2].mean((2, 3))
    expected = corner * torch.tensor([2.0, 3.0]) + torch.tensor([0.5, -1.0])
    assert torch.allclose(layer(x)[:, :, 0, 0], expected, atol=1e-6)
    assert layer(x).shape == (3, 2, 2, 3)


def test_response_normalisation_is_the_authors():
    """Sums of squares of n neighbours times alpha, not their mean."""
    x, n, alpha, beta, k = torch.randn(2, 7, 3, 3), 5, 0.3, 0.75, 2.0
    expected = torch.empty_like(x)
    for p in range(7):
        near = x[:, max(0, p - n // 2) : p + n // 2 + 1]
        expected[:, p] = x[:, p] / (k + alpha * near.square().sum(1)) ** beta
    assert torch.allclose(neural.local_response_norm(n, alpha, beta, k)(x), expected, atol=1e-6)


def test_pooling_by_norms_is_torchs():
    """The p-norm of a square; one and the mean differ by a factor, infinity is the maximum."""
    x = torch.rand(2, 3, 6, 6)
    means = nn.AvgPool2d(2)(x)
    assert torch.allclose(nn.LPPool2d(1.0, 2)(x), 4 * means, atol=1e-5)
    assert torch.allclose(nn.LPPool2d(50.0, 2)(x + 1), nn.MaxPool2d(2)(x + 1), rtol=0.03)


def test_a_spatial_pyramid_keeps_where_things_are():
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 0, 7] = 1.0
    assert neural.SpatialPyramidPool2d([1, 2])(x).tolist() == [[1.0, 0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("size", [(9, 3), (12, 5)])
def test_lengths_of_convolutions(size):
    n, m = size
    x, w = torch.zeros(1, 1, n), torch.zeros(1, 1, m)
    assert functional.conv1d(x, w).shape[2] == n - m + 1
    assert functional.conv1d(x, w, padding=m - 1).shape[2] == n + m - 1
    assert functional.conv1d(x, w, padding=(m - 1) // 2).shape[2] == n


def test_gradients_of_a_convolution():
    """By the filter the correlation with the image, by the image the wide one turned around."""
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    y = functional.conv2d(x, w)
    up = torch.randn_like(y)
    by_image, by_filter = torch.autograd.grad(y, [x, w], up)
    assert torch.allclose(by_filter, functional.conv2d(x, up), atol=1e-12)
    assert torch.allclose(by_image, functional.conv2d(up, w.flip(2, 3), padding=2), atol=1e-12)


def test_the_policy_network_of_alphago():
    """48 planes, a 5 x 5 and eleven 3 x 3 convolutions of 192 maps, a bias for each position."""
    layers = [nn.Conv2d(48, 192, 5, padding=2, device="meta")]
    layers += [nn.Conv2d(192, 192, 3, padding=1, device="meta") for _ in range(11)]
    layers += [nn.Conv2d(192, 1, 1, bias=False, device="meta")]
    positions = neural.PositionBias((19, 19))
    assert sum(count(x) for x in layers) + count(positions) == 3_882_793
    assert torch.equal(positions(torch.zeros(2, 1, 19, 19)), torch.zeros(2, 1, 19, 19))


def test_attention_to_maps_and_places():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6)
    maps, places = neural.ChannelAttention(4, reduction=2), neural.SpatialAttention(3)
    f = maps.network
    weights = torch.sigmoid(f(x.mean((2, 3))) + f(x.flatten(2).max(2).values))
    assert torch.allclose(maps(x), x * weights.reshape(2, 4, 1, 1), atol=1e-6)
    shown = torch.stack([x.mean(1), x.max(1).values], 1)[:, :, 1:4, 2:5]
    logit = (shown * places.convolution.weight).sum((1, 2, 3)) + places.convolution.bias
    expected = x[:, :, 2, 3] * logit.sigmoid()[:, None]
    assert torch.allclose(places(x)[:, :, 2, 3], expected, atol=1e-6)
    with pytest.raises(ModelError, match="must be odd"):
        neural.SpatialAttention(4)


def test_shifts_move_whole_images():
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 7, 7)
    x[:, 0, 3, 3] = 1.0
    moved = neural.RandomShift(2)(x)
    assert (moved.sum((1, 2, 3)) == 1).all()
    places = torch.nonzero(moved)[:, 2:]
    assert sorted({tuple(p) for p in places.tolist()}) == [
        (i, j) for i in range(1, 6) for j in range(1, 6)
    ]


BODIES = {
    "alexnet": lambda: neural.alexnet(1, width=4, hidden=16),
    "vgg": lambda: neural.vgg(1, (4, 8), depth=1),
    "inception": lambda: neural.inception(1, (2, 4)),
    "resnet": lambda: neural.resnet(1, (4, 8), depth=1),
    "densenet": lambda: neural.densenet(1, growth=3, depth=2, blocks=2),
    "highway": lambda: neural.highway(1, (4, 8), depth=1),
}


def bars(n: int) -> tuple[Tensor, Tensor]:
    """Images of a bar that lies or stands."""
    rng = torch.Generator().manual_seed(0)
    image, kind = torch.zeros(n, 1, 16, 16), torch.randint(2, (n,), generator=rng)
    for k, place in enumerate(torch.randint(2, 14, (n,), generator=rng).tolist()):
        image[k, 0, place] = 1.0
        if kind[k]:
            image[k] = image[k].transpose(1, 2).clone()
    return image, kind


@pytest.mark.parametrize("name", BODIES)
def test_each_network_tells_bars_apart(name):
    torch.manual_seed(0)
    image, label = bars(64)
    kind = pgnn.Variable("kind", ["lies", "stands"])
    network = neural.Readout(BODIES[name](), 2)
    model = pgnn.BayesianNetwork([], [pgnn.Neural(kind, [], network, inputs=["image"])])
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.01), max_iterations=40)
    model.fit({"kind": pgnn.codes(label)}, inputs={"image": image}, learner=learner, seed=0)
    model.eval()
    found = model.query("kind", inputs={"image": image})["kind"].probs.argmax(1)
    assert (found == label).float().mean() > 0.9


@pytest.mark.parametrize("name", ["resnet", "alexnet"])
def test_a_body_is_an_encoder_of_images(name):
    """The same body recognises the latent numbers of an autoencoder, images in their own shape."""
    torch.manual_seed(0)
    image, _ = bars(32)
    decoder = nn.Linear(2, 256)
    model = pgnn.VAE(
        neural.Readout(BODIES[name](), 4), decoder, pgnn.BernoulliHead((1, 16, 16)), latent=2
    )
    model.fit(image, learner=pgnn.LowerBound(max_iterations=2), seed=0)
    assert model.encode(image).mean.shape == (32, 2)


def test_filters_find_words_wherever_they_are():
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    words, label = torch.randint(2, 20, (64, 12), generator=rng), torch.arange(64) % 2
    for k in range(1, 64, 2):
        words[k, (k * 5) % 10] = 1
    kind = pgnn.Variable("kind", 2)
    network = neural.Readout(neural.TextCNN(20, 8, 8, lengths=(1, 2)), 2)
    model = pgnn.BayesianNetwork([], [pgnn.Neural(kind, [], network, inputs=["words"])])
    learner = pgnn.Gradient(optimizer=lambda p: torch.optim.Adam(p, lr=0.05), max_iterations=40)
    model.fit({"kind": label}, inputs={"words": words}, learner=learner, seed=0)
    found = model.query("kind", inputs={"words": words})["kind"].probs.argmax(1)
    assert (found == label).float().mean() > 0.95
    short = network[0](torch.tensor([[3]]))
    assert short.shape == (1, 16)
