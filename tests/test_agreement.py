"""Agreement beyond chance: values by hand, by scikit-learn, and a spread by another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from cxr_core.agreement import agreement, kappa
from cxr_core.errors import ArgumentError
from cxr_core.ranking import NO_INTERVAL

cells = st.tuples(*[st.integers(0, 60)] * 4)


def test_kappa_by_hand():
    # 20 + 15 of 50 alike: observed 0.7; by chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5.
    found = kappa(((20, 5), (10, 15)))
    assert found.value == pytest.approx(0.4)
    # Fleiss, Cohen and Everitt, term by term: their A, B and C.
    on = 0.4 * (1 - (0.5 + 0.6) * 0.6) ** 2 + 0.3 * (1 - (0.5 + 0.4) * 0.6) ** 2
    off = 0.1 * (0.6 * (0.6 + 0.5)) ** 2 + 0.2 * (0.6 * (0.4 + 0.5)) ** 2
    spread = ((on + off - (0.4 - 0.5 * 0.6) ** 2) / (0.25 * 50)) ** 0.5
    assert (found.low, found.high) == pytest.approx(
        (0.4 - 1.959964 * spread, 0.4 + 1.959964 * spread)
    )


@given(cells)
def test_kappa_is_that_of_scikit_learn(counts):
    neither, model, reader, both = counts
    found = kappa(((neither, model), (reader, both)))
    if found.value is None:
        assert sum(counts) in (neither, both)
        return
    said = [0] * neither + [0] * model + [1] * reader + [1] * both
    flagged = [0] * neither + [1] * model + [0] * reader + [1] * both
    assert found.value == pytest.approx(cohen_kappa_score(said, flagged))


@given(cells)
def test_its_spread_is_that_of_the_delta_method(counts):
    """Kappa's slope along every share, by small steps, over the multinomial covariance."""
    table = np.array(counts, float).reshape(2, 2)
    found = kappa(tuple(map(tuple, table.astype(int).tolist())))
    if found.low is None or found.low == -1 or found.high == 1:
        return

    def of(shares):
        chance = shares.sum(1) @ shares.sum(0) / shares.sum() ** 2
        return (np.trace(shares) / shares.sum() - chance) / (1 - chance)

    shares, step, slopes = table / table.sum(), 1e-6, np.zeros(4)
    for cell in range(4):
        moved = np.zeros(4)
        moved[cell] = step
        moved = moved.reshape(2, 2)
        slopes[cell] = (of(shares + moved) - of(shares - moved)) / (2 * step)
    flat = shares.ravel()
    covariance = (np.diag(flat) - np.outer(flat, flat)) / table.sum()
    half = 1.959964 * (slopes @ covariance @ slopes) ** 0.5
    assert found.high - found.value == pytest.approx(half, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("counts", [((0, 0), (0, 0)), ((9, 0), (0, 0)), ((0, 0), (0, 9))])
def test_who_always_says_the_same_agrees_no_better_than_chance_could(counts):
    assert kappa(counts) == NO_INTERVAL


def test_perfect_agreement_leaves_no_range():
    found = kappa(((5, 0), (0, 4)))
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_the_unsure_are_counted_apart():
    said = [True, True, False, None, None, None]
    found = agreement(said, [True, False, False, True, False, False])
    assert found.counts == ((1, 0), (1, 1))
    assert found.unsure == (2, 1)
    assert found.n == 3
    assert found.observed.value == pytest.approx(2 / 3)


def test_films_without_an_answer_are_refused():
    with pytest.raises(ArgumentError, match="2 and 1"):
        agreement([True, None], [True])
