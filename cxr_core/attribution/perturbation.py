"""Explanations by trial: change the film, and see how the logit moves."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core.attribution.activation import coarse, features_of
from cxr_core.attribution.grids import on_square
from cxr_core.attribution.registry import Attribution, Question, register_method
from cxr_core.errors import ArgumentError
from cxr_core.preprocess import Box, ModelInput

Floats = NDArray[np.float32]

# Channels that Score-CAM tries: those that vary most over the film.
CHANNELS = 32
# A patch is this share of the square's side, and takes so many places either way: each half
# over the one before.
PATCH, PLACES = 1 / 6, 11


@register_method(
    title="Score-CAM",
    signed=False,
    cost=32,
    shows="the region that keeps the score up when all else is greyed out, without gradients",
    hides="outlines, small findings, and whatever speaks against",
)
def score_cam(question: Question) -> Attribution:
    """Weigh each feature map by the logit of the film seen through it alone.

    Costs one forward pass for each of the `CHANNELS` channels of largest variance (the faster
    variant). Each is scaled to [0, 1] and lets the film through where it is high; elsewhere the
    film is its own mean grey, which for standardised input is the zero of the paper. A weight
    is the increase of the explained logit over the wholly grey film, softmax over the channels
    as in the paper; the grey film's logit is the same for all, so it drops out and is not
    computed. (A softmax over the model's outputs instead makes all weights 1 where there is
    but one.) Summed up are the scaled channels, where the paper sums the raw ones and keeps what
    is positive: here a channel of large numbers counts no more than its weight. Shows regions as
    coarse as the feature map; the softmax lets one or two channels decide where logits are far
    apart. Not signed.

    Reference:
        Wang et al., Score-CAM: score-weighted visual explanations for convolutional neural
        networks, CVPR workshops 2020, arXiv:1910.01279, algorithm 1; the choice of channels
        by variance is Faster-Score-CAM (tabayashi0117, 2020).
    """
    features = features_of(question)
    channels = varied_channels(features)
    pixels, grey = question.model_input.pixels, _grey(question.model_input)
    scores = np.zeros(len(channels), np.float32)
    for part in question.batches(len(channels)):
        masks = np.stack([_enlarged(mask, len(pixels)) for mask in channels[part]])[..., None]
        scores[part] = question.values(grey + masks * (pixels - grey))
    values = np.zeros(features.shape[:2], np.float32)
    if len(channels):
        weights = np.exp(scores - scores.max())
        values = np.tensordot(weights / weights.sum(), channels, axes=1)
    return question.answer(values, "score-cam", signed=False, note=coarse(values))


def varied_channels(features: Floats, most: int = CHANNELS) -> Floats:
    """Return the channels of features (h, w, C) that vary most, each scaled to [0, 1].

    Returns:
        float32 (n, h, w), the most varied first; channels without variance are left out.
    """
    variance = features.var(axis=(0, 1), dtype=np.float64)
    chosen = np.argsort(-variance, kind="stable")[:most]
    chosen = chosen[np.ptp(features, axis=(0, 1))[chosen] > 0]
    channels = np.moveaxis(features[..., chosen], 2, 0)
    low = channels.min(axis=(1, 2), keepdims=True)
    return np.asarray((channels - low) / np.ptp(channels, axis=(1, 2), keepdims=True), np.float32)


@register_method(
    title="Occlusion",
    signed=True,
    cost=121,
    shows="how far the score falls (or rises) when a patch of the film is greyed out",
    hides="findings smaller than the patch, and evidence that stands in two places at once",
)
def occlusion(question: Question) -> Attribution:
    """Slide a grey patch over the film; say how far the logit falls while it lies there.

    Costs one forward pass for each of 121 places of a patch, a sixth of the side wide, that
    moves by half of itself. A pixel's value is the mean fall, in logits, over all patches that
    cover it: positive where the film speaks for the label, negative where it speaks against.
    The patch has the film's own mean grey. Shows what the network does without a region; misses
    what is told twice (either place alone can be covered without effect), and a patch is itself
    something that no film shows. Signed.

    Reference:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014,
        arXiv:1311.2901, section 4.2.
    """
    pixels, grey = question.model_input.pixels, _grey(question.model_input)
    size = len(pixels)
    side = max(1, round(size * PATCH))
    starts = np.linspace(0, size - side, PLACES).round().astype(int)
    patches = [(slice(y, y + side), slice(x, x + side)) for y in starts for x in starts]
    whole = float(question.values(pixels[None])[0])
    falls = np.zeros((size, size), np.float64)
    times = np.zeros((size, size), np.int64)
    for part in question.batches(len(patches)):
        films = np.repeat(pixels[None], part.stop - part.start, axis=0)
        for film, patch in zip(films, patches[part], strict=True):
            film[patch] = grey
        for patch, value in zip(patches[part], question.values(films), strict=True):
            falls[patch] += whole - float(value)
            times[patch] += 1
    return question.answer((falls / times).astype(np.float32), "occlusion", signed=True)


def occluded(model_input: ModelInput, box: Box) -> ModelInput:
    """Grey out a box of the film, so that a reader may ask what the model says without it.

    Args:
        model_input: The film as a model reads it.
        box: x0, y0, x1, y1 as fractions of the film's width and height.

    Returns:
        A new input; pixels of the square whose centres lie in the box have the film's mean.

    Raises:
        ArgumentError: When the box is empty or reaches beyond the film.
    """
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ArgumentError(
            f"A box must lie within the film, 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1, but {box} "
            "came."
        )
    placement = model_input.placement
    left, top, right, bottom = (round(edge * placement.size) for edge in on_square(box, placement))
    pixels = model_input.pixels.copy()
    pixels[top:bottom, left:right] = _grey(model_input)
    return ModelInput(pixels, placement, model_input.black)


def _grey(model_input: ModelInput) -> np.float32:
    """Return the film's own mean."""
    return np.float32(model_input.pixels.mean(dtype=np.float64))


def _enlarged(values: Floats, size: int) -> Floats:
    """Resample a map to the square, bilinear, half-pixel centres."""
    source = Image.fromarray(np.ascontiguousarray(values))
    return np.asarray(source.resize((size, size), Image.Resampling.BILINEAR))
