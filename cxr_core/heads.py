"""A linear head over a frozen backbone, solved at once instead of fitted step by step.

With few films the best linear reading of fixed codes is a matter of seconds, has one number
to choose (how much it is held back) and the same answer at every run.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float32]
# Added to each variance: a code that hardly ever differs from zero must not be blown up.
FLOOR = 3e-4


def solve_head(
    codes: Floats, targets: Floats, weights: Floats, inverse_penalty: float
) -> tuple[Floats, Floats]:
    """Fit each label's logistic regression with a penalty on the squares of its weights.

    Codes are standardised, and the standardisation is folded into the answer.

    Args:
        codes: float32 (N, D).
        targets: (N, K) of 0 and 1.
        weights: (N,) of films, mean about 1.
        inverse_penalty: The smaller, the more the weights are held back: C of scikit-learn.

    Returns:
        Kernel float32 (D, K) and bias float32 (K,) of a dense layer over codes as they are. A
        label that all films have, or none, has a kernel of zeros.

    Reference:
        Hastie, Tibshirani and Friedman, The elements of statistical learning, 2009, section
        18.3.5: with more codes than films the answer lies in the span of the films.
    """
    mean, spread = codes.mean(axis=0), np.sqrt(codes.var(axis=0) + FLOOR)
    standard = ((codes - mean) / spread).astype(np.float64)
    values, vectors = np.linalg.eigh(standard @ standard.T)
    kept = values > 1e-6 * values[-1]
    basis = standard.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    short = standard @ basis
    kernel, bias = np.zeros((codes.shape[1], targets.shape[1])), np.zeros(targets.shape[1])
    for k, truth in enumerate(np.asarray(targets, np.float64).T):
        found = truth.sum()
        if not 0 < found < truth.size:
            bias[k] = np.log((found + 0.5) / (truth.size - found + 0.5))
            continue
        solved = _logistic(short, truth, np.asarray(weights, np.float64), inverse_penalty)
        kernel[:, k] = basis @ solved[:-1] / spread
        bias[k] = solved[-1] - mean @ kernel[:, k]
    return kernel.astype(np.float32), bias.astype(np.float32)


def _logistic(
    inputs: NDArray[np.float64],
    truth: NDArray[np.float64],
    weights: NDArray[np.float64],
    inverse_penalty: float,
) -> NDArray[np.float64]:
    """Return the weights (D,) and, last, the bias of the smallest penalised loss."""

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = inputs @ theta[:-1] + theta[-1]
        wrong = weights * (0.5 * (1 + np.tanh(logits / 2)) - truth)
        value = (weights * (np.logaddexp(0, logits) - truth * logits)).sum()
        value += theta[:-1] @ theta[:-1] / (2 * inverse_penalty)
        slope = inputs.T @ wrong + theta[:-1] / inverse_penalty
        return float(value), np.append(slope, wrong.sum())

    start = np.zeros(inputs.shape[1] + 1)
    options = {"maxiter": 500, "ftol": 1e-12}
    solved = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    answer: NDArray[np.float64] = solved.x
    return answer
