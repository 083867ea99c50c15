import numpy as np
import pytest

from pgnn.errors import DataError
from pgnn.inference.diagnostics import BatchSums, effective_sample_size, r_hat, standard_error


def autoregressive(rng, phi, chains, n):
    """Chains x_t = phi x_{t-1} + noise, stationary from the start, of variance one."""
    x = np.empty((chains, n))
    x[:, 0] = rng.normal(size=chains)
    noise = rng.normal(size=(chains, n)) * np.sqrt(1 - phi**2)
    for t in range(1, n):
        x[:, t] = phi * x[:, t - 1] + noise[:, t]
    return x


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressive_chains(phi):
    # The autocorrelation at lag t is phi^t, so that n_eff = n (1 - phi) / (1 + phi).
    rng = np.random.default_rng(1)
    found = effective_sample_size(autoregressive(rng, phi, 4, 20000))
    exact = 80000 * (1 - phi) / (1 + phi)
    # The error of the summed autocorrelations is about sqrt(4 w / N) for a window of w lags
    # (Madras & Sokal 1988); Geyer's window of these is below 100 lags: 7 percent.
    assert found == pytest.approx(exact, rel=3 * np.sqrt(4 * 100 / 80000))


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_standard_error_is_the_spread_of_means(phi):
    rng = np.random.default_rng(2)
    runs = autoregressive(rng, phi, 4 * 300, 500).reshape(300, 4, 500)
    claimed = np.mean([standard_error(run) ** 2 for run in runs])
    spread = runs.mean(axis=(1, 2)).var()
    # A variance from 300 runs has a relative standard error of sqrt(2 / 299) = 8 percent;
    # halves of 250 values bias the claim by a few percent more.
    assert claimed == pytest.approx(spread, rel=3 * np.sqrt(2 / 299) + 0.05)


def test_r_hat_of_chains_apart_by_its_formula():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 200)) + np.array([[0.0], [1.0], [5.0]])
    halves = x.reshape(6, 100)
    w, b = halves.var(axis=1, ddof=1).mean(), 100 * halves.mean(axis=1).var(ddof=1)
    assert r_hat(x) == pytest.approx(np.sqrt((0.99 * w + b / 100) / w))


def test_r_hat_sees_drift_within_one_chain():
    rng = np.random.default_rng(4)
    assert r_hat(rng.normal(size=(1, 1000))) < 1.01
    assert r_hat(rng.normal(size=(1, 1000)) + np.linspace(0, 3, 1000)) > 1.3


def test_what_stands_still():
    assert r_hat(np.full((2, 10), 0.3)) == 1.0
    assert effective_sample_size(np.full((2, 10), 0.3)) == 20
    assert standard_error(np.full((2, 10), 0.3)) == 0.0
    assert r_hat(np.repeat([[0.0], [1.0]], 10, axis=1)) == np.inf


def test_scale_does_not_matter():
    x = np.random.default_rng(5).normal(size=(2, 100))
    for figure in (r_hat, effective_sample_size):
        assert figure(1e-12 * x) == pytest.approx(figure(x), rel=1e-6)


def test_many_quantities_at_once():
    x = np.random.default_rng(6).normal(size=(2, 50, 3, 2))
    for figure in (r_hat, effective_sample_size, standard_error):
        assert figure(x).shape == (3, 2)
        assert figure(x)[1, 0] == pytest.approx(figure(x[:, :, 1, 0]))


@pytest.mark.parametrize("shape", [(5,), (0, 10), (2, 3)])
def test_traces_of_wrong_shape(shape):
    for figure in (r_hat, effective_sample_size, standard_error):
        with pytest.raises(DataError, match="traces must be"):
            figure(np.zeros(shape))


# --- batch sums ---------------------------------------------------------------------------------


def batched(x, batches):
    """Batch sums of one row's traces ``(C, n)``."""
    sums = BatchSums(1, len(x), 1)
    for k, part in enumerate(np.split(x, batches, axis=1)):
        sums.add(
            int(2 * k >= batches),
            part.shape[1],
            part.sum(axis=1, keepdims=True),
            (part**2).sum(axis=1, keepdims=True),
        )
    return sums


def test_batch_sums_have_the_mean_and_r_hat_of_the_trace():
    x = autoregressive(np.random.default_rng(7), 0.5, 3, 800) * 0.1 + 0.5
    sums = batched(x, 8)
    assert sums.mean()[0, 0] == pytest.approx(x.mean(), rel=1e-12)
    assert sums.r_hat()[0, 0] == pytest.approx(r_hat(x), rel=1e-9)


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_batch_means_tell_the_standard_error(phi):
    x = autoregressive(np.random.default_rng(8), phi, 4, 16000) * 0.1 + 0.5
    sums = batched(x, 16)
    exact = 0.1 * np.sqrt((1 + phi) / (1 - phi) / x.size)
    # 64 batch means: their variance has 63 degrees of freedom, a relative error of the standard
    # error of 1 / sqrt(126) = 9 percent
    assert sums.standard_error()[0, 0] == pytest.approx(exact, rel=3 / np.sqrt(126))
    size = sums.effective_sample_size()[0, 0]
    assert size == pytest.approx(x.size * (1 - phi) / (1 + phi), rel=6 / np.sqrt(126))


def test_batch_sums_of_what_stands_still():
    sums = batched(np.full((2, 16), 1 / 3), 4)
    assert sums.r_hat()[0, 0] == 1.0
    assert sums.standard_error()[0, 0] == 0.0
    assert sums.effective_sample_size()[0, 0] == 32
    apart = batched(np.repeat([[0.2], [0.7]], 16, axis=1), 4)
    assert apart.r_hat()[0, 0] == np.inf
    assert apart.effective_sample_size()[0, 0] < 10
