"""The head that is solved at once: the optimum, folded into one dense layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from cxr_core.heads import FLOOR, solve_head


def made(films: int, codes: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.gamma(1.0, 2.0, (films, codes)).astype(np.float32)
    y = (x[:, :1] + rng.normal(size=(films, 1)) > 2).astype(np.float32)
    return x, y, rng.uniform(0.5, 1.5, films).astype(np.float32)


@pytest.mark.parametrize(("films", "codes"), [(60, 8), (30, 200)])
@pytest.mark.parametrize("inverse_penalty", [1e-3, 1.0])
def test_it_agrees_with_scikit_learn(films, codes, inverse_penalty):
    x, y, weights = made(films, codes)
    kernel, bias = solve_head(x, y, weights, inverse_penalty)
    standard = (x - x.mean(0)) / np.sqrt(x.var(0) + FLOOR)
    theirs = LogisticRegression(C=inverse_penalty, max_iter=5000, tol=1e-9)
    theirs.fit(standard.astype(np.float64), y[:, 0], sample_weight=weights)
    assert_allclose((x @ kernel + bias)[:, 0], theirs.decision_function(standard), atol=2e-3)


def test_each_label_is_solved_by_itself():
    x, y, weights = made(50, 6)
    both = np.hstack([y, 1 - y])
    kernel, bias = solve_head(x, both, weights, 0.1)
    assert_allclose(kernel[:, 0], -kernel[:, 1], atol=1e-4)
    assert_allclose(bias[0], -bias[1], atol=1e-3)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_of_one_kind_says_so_and_reads_nothing(value):
    x, y, weights = made(20, 5)
    kernel, bias = solve_head(x, np.full_like(y, value), weights, 0.1)
    assert not kernel.any()
    assert np.sign(bias[0]) == 2 * value - 1 and np.isfinite(bias).all()


def test_a_code_that_never_differs_is_not_blown_up():
    x, y, weights = made(40, 5)
    x[:, 3] = 1e-6
    kernel, _ = solve_head(x, y, weights, 1.0)
    assert abs(kernel[3, 0]) < 1e-6


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_the_order_of_films_does_not_matter(seed):
    x, y, weights = made(25, 4, seed)
    if not 0 < y.sum() < len(y):
        return
    order = np.random.default_rng(seed).permutation(len(x))
    one = solve_head(x, y, weights, 0.01)
    other = solve_head(x[order], y[order], weights[order], 0.01)
    assert_allclose(one[0], other[0], atol=1e-4)
