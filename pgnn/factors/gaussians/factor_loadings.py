"""Loadings of factor analysis: the most likely ones, and how they are turned."""

from __future__ import annotations

import numpy as np


def factor_loadings(
    covariance: np.ndarray, factors: int, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the most likely loadings and variances of the noise for a covariance.

    Given the variances :math:`\psi` the best loadings follow from the largest eigenvalues
    :math:`\lambda` of :math:`\Psi^{-1/2} S \Psi^{-1/2}`; what is left depends on them alone,

    .. math:: \sum_{k \le q} \big(\log \lambda_k - \lambda_k + 1\big) + \mathrm{tr}\, \Psi^{-1} S
        + \log |\Psi|

    over eigenvalues above one, and L-BFGS lowers it in the logarithms.

    Args:
        covariance: ``(D, D)`` :math:`S`.
        factors: :math:`q`.
        floor: ``(D,)`` least variances.

    Returns:
        ``(D, factors)`` and ``(D,)``.

    Cost:
        A symmetric eigenvalue problem of size ``D`` for each evaluation.

    References:
        Jöreskog (1967), Some contributions to maximum likelihood factor analysis, section 3.
    """
    from scipy.linalg import eigh
    from scipy.optimize import minimize

    size = len(covariance)
    total = np.maximum(covariance.diagonal(), 1e-300)
    least = np.maximum(floor, 1e-300)
    most = np.maximum(total, least)
    first = max(0, size - factors)

    def spectrum(log_noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        root = np.exp(-0.5 * log_noise)
        scaled = root[:, None] * covariance * root
        values, vectors = eigh(scaled, subset_by_index=(first, size - 1))
        return np.maximum(values, 1.0), vectors

    def objective(log_noise: np.ndarray) -> tuple[float, np.ndarray]:
        values, vectors = spectrum(log_noise)
        ratio = total * np.exp(-log_noise)
        value = float((np.log(values) - values + 1.0).sum() + ratio.sum() + log_noise.sum())
        gradient = 1.0 - ratio + (vectors**2 * (values - 1.0)).sum(axis=1)
        return value, gradient

    inverse = np.linalg.pinv(covariance, hermitian=True).diagonal()
    begin = (1.0 - 0.5 * factors / size) / np.maximum(inverse, 1e-300)
    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    bounds = np.stack([np.log(least), np.log(most)], axis=1)
    result = minimize(
        objective,
        np.log(np.clip(begin, least, most)),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    values, vectors = spectrum(result.x)
    noise = np.exp(result.x)
    weight = np.sqrt(noise)[:, None] * vectors * np.sqrt(values - 1.0)
    weight = np.concatenate([weight[:, ::-1], np.zeros((size, max(0, factors - size)))], axis=1)
    return weight, noise


def orthomax(weight: np.ndarray, gamma: float, max_iterations: int = 500) -> np.ndarray:
    """Return the rotation ``(K, K)`` that makes loadings ``(D, K)`` simplest.

    Args:
        weight: The loadings.
        gamma: 1 for varimax, 0 for quartimax.
        max_iterations: Largest number of rounds.
    """
    rotation, value = np.eye(weight.shape[1]), -np.inf
    for _ in range(max_iterations):
        turned = weight @ rotation
        target = turned**3 - gamma * turned * (turned**2).mean(axis=0)
        left, sizes, right = np.linalg.svd(weight.T @ target)
        rotation = left @ right
        if sizes.sum() <= value * (1.0 + 1e-12):
            break
        value = sizes.sum()
    return rotation
