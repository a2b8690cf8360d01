"""Films to start from: what integrated gradients compare a film with."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cxr_core.attribution.registry import Question
from cxr_core.cards import ModelCard, model_folder, reading
from cxr_core.errors import ArgumentError, ModelError
from cxr_core.preprocess import finish

MEAN_FILM = "mean_film.png"
# Spread of the baseline's blur, as a share of the square's side: lungs and heart melt into one
# shade. (Faithfulness deletes with a blur of its own, which its records name.)
BASELINE_BLUR = 0.1


def baseline_film(question: Question) -> NDArray[np.float32]:
    """Return the film (S, S, C) from which a question's integrated gradients start.

    "black" is all black; "blurred" is this film, blurred until no structure is left; "mean" is
    the mean of the training films.

    Raises:
        ArgumentError: When the baseline is none of these, or the model has no mean film.
    """
    film = question.model_input
    if question.baseline == "black":
        return np.full_like(film.pixels, film.black)
    if question.baseline == "blurred":
        spread = BASELINE_BLUR * len(film.pixels)
        return np.asarray(gaussian_filter(film.pixels, (spread, spread, 0), mode="nearest"))
    if question.baseline == "mean":
        return load_mean_film(question.classifier.card)
    raise ArgumentError(
        f"baseline must be 'black', 'blurred' or 'mean', but '{question.baseline}' came."
    )


def load_mean_film(card: ModelCard, root: Path | None = None) -> NDArray[np.float32]:
    """Read the mean of a model's training films, as the model would read it as a film.

    Args:
        card: The model's card; the file is models/NAME/mean_film.png, 8-bit grey, S x S.
        root: The models folder, when it is not the usual one.

    Returns:
        float32 (S, S, C), normalised like any film.

    Raises:
        ArgumentError: When the model has none.
        ModelError: When the file is damaged or of another size.
    """
    path = model_folder(card.name, root) / MEAN_FILM
    if not path.is_file():
        raise ArgumentError(
            f"Model '{card.name}' has no mean film to start from; choose the baseline 'black' or "
            f"'blurred', or make one with `python -m cxr_core faithfulness --model {card.name} "
            "--data FOLDER`."
        )
    with reading(path), Image.open(path) as image:
        mode, square = image.mode, np.asarray(image)
    size = card.preprocessing.size
    if mode != "L" or square.shape != (size, size):
        raise ModelError(
            f"'{path}' must be 8-bit grey of {size} x {size} pixels, but it is of mode {mode} and "
            f"{square.shape[1]} x {square.shape[0]}; make it anew with `python -m cxr_core "
            f"faithfulness --model {card.name} --data FOLDER`."
        )
    return np.asarray(finish(square[None], card.preprocessing)[0])
