"""The interval of a case: as wide as the model is shaken by the film's small changes."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_core.calibration import Calibration, Curve
from cxr_core.cards import ModelCard
from cxr_core.preprocess import Preprocessing, prepare
from cxr_core.uncertainty import GAMMA, NOISE, SHIFT, VARIATIONS, steadiness, variations

SIZE = 64


class Network:
    """Stands for a classifier whose logits follow from the pixels by a formula."""

    def __init__(self, card: ModelCard, formula) -> None:
        self.card, self.formula, self.passes = card, formula, []

    def forward(self, pixels):
        self.passes.append(len(pixels))
        return self.formula(pixels).astype(np.float32), None


@pytest.fixture
def card(made_card) -> ModelCard:
    shape = Preprocessing(size=SIZE, standardise=False)
    return replace(made_card, preprocessing=shape, calibration=Calibration())


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_a_network_that_ignores_such_changes_has_no_width(card, phantom_film):
    deaf = Network(card, lambda pixels: np.full((len(pixels), 1), 0.7))
    ((low, high),) = steadiness(deaf, phantom_film).values()
    assert low == high == pytest.approx(sigmoid(0.7))


def test_a_linear_network_by_hand(card, phantom_film):
    """Of an even film only the exposure changes its mean: 0.5 to the power of 0.9 to 1.1."""
    grey = 128 / 255
    even = replace(phantom_film, pixels=np.full((SIZE, SIZE), grey, np.float32))
    mean = Network(card, lambda pixels: 8 * pixels.mean(axis=(1, 2)))
    ((low, high),) = steadiness(mean, even).values()
    grain = 8 * 4 * NOISE / SIZE  # four standard errors of the mean of the noise
    assert sigmoid(8 * grey ** (1 + GAMMA) - grain) <= low < sigmoid(8 * grey ** (1 + GAMMA / 4))
    assert sigmoid(8 * grey ** (1 - GAMMA / 4)) < high <= sigmoid(8 * grey ** (1 - GAMMA) + grain)


def test_the_interval_holds_the_answer_itself(tiny_classifier, phantom_film):
    given = prepare(phantom_film, tiny_classifier.card.preprocessing)
    answers = tiny_classifier.predict(given).labels
    found = steadiness(tiny_classifier, phantom_film)
    assert list(found) == [answer.label for answer in answers]
    for answer in answers:
        low, high = found[answer.label]
        assert 0 <= low <= answer.probability + 1e-5
        assert answer.probability - 1e-5 <= high <= 1
        assert high > low


def test_the_same_film_has_the_same_interval_in_one_pass(card, phantom_film):
    counting = Network(card, lambda pixels: 3 * pixels[:, 20:40, 20:40].mean(axis=(1, 2)))
    first, again = steadiness(counting, phantom_film), steadiness(counting, phantom_film)
    other = steadiness(counting, replace(phantom_film, digest="cd" * 32))
    assert first == again != other
    assert counting.passes == [VARIATIONS + 1] * 3


def test_probabilities_are_the_calibrated_ones(card, phantom_film):
    shifted = replace(card, calibration=Calibration((Curve("platt", (2.0, 1.0)),)))
    deaf = Network(shifted, lambda pixels: np.full((len(pixels), 1), 0.5))
    assert steadiness(deaf, phantom_film)["Pneumonia"] == pytest.approx((sigmoid(2), sigmoid(2)))


def test_variations_are_small_and_never_alike():
    """A ramp along x says how far the film moved: its middle, undone by the film's exposure."""
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, 201, dtype=np.float32), (201, 201))
    made = variations(np.ascontiguousarray(ramp), seed=1)
    assert len(made) == VARIATIONS
    middles = np.array([one[80:121, 80:121].mean() for one in made])
    assert len(set(middles.tolist())) == VARIATIONS
    furthest = 0.6 * SHIFT  # of a ramp that climbs 0.6 across the film
    low, high = (0.5 - furthest) ** (1 + GAMMA), (0.5 + furthest) ** (1 - GAMMA)
    assert ((middles > low - 0.002) & (middles < high + 0.002)).all()
    for one in made:
        assert one.dtype == np.float32
        assert 0 <= one.min() <= one.max() <= 1
