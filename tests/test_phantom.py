"""The computer-made thorax: anatomy where it belongs, opacities where they were planted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr_core.errors import ArgumentError
from cxr_core.images import Radiograph, load_radiograph, read_radiograph
from cxr_core.phantom import Opacity, png_bytes, sample_film, thorax, write_dataset

SEEDS = range(5)


def patch(film: Radiograph, x: float, y: float, half: float = 0.03) -> float:
    """Mean grey around a point given in fractions of the film."""
    height, width = film.pixels.shape
    rows = slice(int((y - half) * height), int((y + half) * height) + 1)
    columns = slice(int((x - half) * width), int((x + half) * width) + 1)
    return float(film.pixels[rows, columns].mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_lungs_are_darker_than_the_mediastinum_and_air_is_black(seed: int) -> None:
    film = thorax(192, 168, seed=seed)
    mediastinum, abdomen = patch(film, 0.5, 0.5), patch(film, 0.5, 0.93)
    for x in (0.25, 0.75):
        assert patch(film, x, 0.42) < mediastinum - 0.2
        assert patch(film, x, 0.42) < abdomen - 0.2
    assert patch(film, 0.04, 0.03, 0.02) < 0.05
    assert patch(film, 0.96, 0.03, 0.02) < 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_the_heart_lies_on_the_patients_left_and_the_film_is_not_mirrored(seed: int) -> None:
    film = thorax(192, 168, seed=seed)
    left, right = patch(film, 0.63, 0.62), patch(film, 0.37, 0.62)
    assert left > right + 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_dome_of_the_diaphragm_is_higher(seed: int) -> None:
    pixels = thorax(256, 224, seed=seed).pixels

    def dome(columns: slice) -> int:
        profile = pixels[150:235, columns].mean(axis=1)
        return int(np.argmax(np.diff(profile)))

    assert dome(slice(56, 64)) < dome(slice(166, 174))


@pytest.mark.parametrize("size", [(16, 16), (40, 300), (300, 40), (97, 85), (192, 168)])
def test_any_size_works(size: tuple[int, int]) -> None:
    film = thorax(*size, seed=1)
    assert film.pixels.shape == size
    assert film.pixels.dtype == np.float32
    assert film.pixels.min() >= 0 and film.pixels.max() <= 1
    assert not film.pixels.flags.writeable


@pytest.mark.parametrize("size", [(15, 200), (200, 15), (0, 0)])
def test_sizes_that_show_nothing_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match="16 x 16"):
        thorax(*size)


def test_a_seed_gives_one_patient_and_seeds_differ() -> None:
    once, again = thorax(96, 84, seed=4), thorax(96, 84, seed=4)
    np.testing.assert_array_equal(once.pixels, again.pixels)
    assert once.digest == again.digest
    others = {thorax(96, 84, seed=seed).digest for seed in range(6)}
    assert len(others) == 6


def test_the_same_patient_looks_alike_at_two_sizes() -> None:
    large, small = thorax(512, 448, seed=2), thorax(128, 112, seed=2)
    reduced = large.pixels.reshape(128, 4, 112, 4).mean(axis=(1, 3))
    assert np.abs(reduced - small.pixels).mean() < 0.02


@pytest.mark.parametrize(("x", "y"), [(0.27, 0.62), (0.73, 0.4), (0.28, 0.3)])
def test_an_opacity_whitens_its_place_and_nothing_far_from_it(x: float, y: float) -> None:
    clear = thorax(256, 224, seed=3).pixels
    filled = thorax(256, 224, seed=3, opacities=(Opacity(x, y, 0.1, 0.8),)).pixels
    rows, columns = np.mgrid[0:256, 0:224]
    distance = np.hypot(columns - x * 224, rows - y * 256) / 224
    change = filled - clear
    assert change[distance < 0.05].mean() > 0.15
    assert np.abs(change[distance > 0.25]).mean() < 0.01
    assert change[distance < 0.1].mean() > 10 * np.abs(change[distance > 0.25]).mean()


def test_a_denser_opacity_is_whiter_and_none_is_none() -> None:
    def filled(density: float) -> NDArray[np.float32]:
        return thorax(128, 112, seed=3, opacities=(Opacity(0.27, 0.6, 0.1, density),)).pixels

    greys = [filled(density)[70:84, 25:35].mean() for density in (0.0, 0.3, 0.6, 0.9)]
    assert np.diff(greys).min() > 0.02
    np.testing.assert_array_equal(filled(0.0), thorax(128, 112, seed=3).pixels)


def test_an_opacity_outside_the_lungs_does_nothing() -> None:
    clear = thorax(128, 112, seed=3).pixels
    below = thorax(128, 112, seed=3, opacities=(Opacity(0.3, 0.97, 0.04, 0.9),)).pixels
    assert np.abs(below - clear).mean() < 0.002


@pytest.mark.parametrize(
    "values",
    [(-0.1, 0.5, 0.1, 0.5), (0.5, 1.1, 0.1, 0.5), (0.5, 0.5, 0.0, 0.5), (0.5, 0.5, 2.0, 0.5),
     (0.5, 0.5, 0.1, 1.5), (float("nan"), 0.5, 0.1, 0.5)],
)  # fmt: skip
def test_opacities_outside_the_film_are_refused(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(ArgumentError, match="opacity must be"):
        Opacity(*values)


def test_a_phantom_is_what_reading_its_png_gives() -> None:
    film = thorax(96, 84, seed=6)
    read = read_radiograph(png_bytes(film))
    np.testing.assert_array_equal(read.pixels, film.pixels)
    assert (read.facts, read.digest) == (film.facts, film.digest)


def test_the_sample_film_is_full_size_with_its_opacity_in_the_right_lower_zone() -> None:
    film = sample_film()
    assert film.pixels.shape == (1024, 900)
    assert patch(film, 0.29, 0.64) > patch(film, 0.8, 0.6) + 0.15
    marker = film.pixels[55:100, 820:855]
    assert marker.max() > 0.5 > np.median(marker)  # the letter L, on the patient's left


def test_a_written_dataset_has_the_layout_and_names_of_the_published_one(tmp_path: Path) -> None:
    write_dataset(tmp_path, patients_per_class=3, size=32)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpeg")}
    assert names == {
        "train/NORMAL/IM-0001-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0001-0001.jpeg",
        "train/NORMAL/IM-0002-0001.jpeg",
        "train/NORMAL/IM-0002-0002.jpeg",
        "train/PNEUMONIA/person2_virus_1.jpeg",
        "train/PNEUMONIA/person3_bacteria_1.jpeg",
        "train/PNEUMONIA/person3_virus_1.jpeg",
        "train/PNEUMONIA/person3_virus_2.jpeg",
        "test/NORMAL/IM-0004-0001.jpeg",
        "test/NORMAL/NORMAL2-IM-0004-0001.jpeg",
        "test/NORMAL/IM-0005-0001.jpeg",
        "test/NORMAL/IM-0005-0002.jpeg",
        "test/PNEUMONIA/person5_virus_1.jpeg",
        "test/PNEUMONIA/person6_bacteria_1.jpeg",
        "test/PNEUMONIA/person6_virus_1.jpeg",
        "test/PNEUMONIA/person6_virus_2.jpeg",
    }


def test_a_written_dataset_can_be_learned_and_repeats_no_film(phantom_folder: Path) -> None:
    films = {path: load_radiograph(path) for path in sorted(phantom_folder.rglob("*.jpeg"))}
    assert len({film.digest for film in films.values()}) == len(films)
    white: dict[str, list[float]] = {"NORMAL": [], "PNEUMONIA": []}
    for path, film in films.items():
        lungs = np.concatenate([film.pixels[25:65, 12:32], film.pixels[25:65, 56:74]], axis=1)
        white[path.parent.name].append(float(np.quantile(lungs, 0.95) - np.median(lungs)))
    assert np.mean(white["PNEUMONIA"]) > np.mean(white["NORMAL"]) + 0.1
    counts = Counter(path.parent.parent.name for path in films)
    assert counts["train"] == counts["test"]


def test_a_dataset_is_the_same_for_the_same_seed_only(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_dataset(tmp_path / name, patients_per_class=1, size=32, seed=seed, splits=("train",))
    name = "train/NORMAL/IM-0001-0001.jpeg"
    first, second, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
    assert first == second != other
    assert load_radiograph(tmp_path / "a" / name).pixels.shape == (32, 28)


def test_two_films_of_one_patient_differ_in_noise_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, patients_per_class=3, size=64, splits=("train",))
    folder = tmp_path / "train" / "NORMAL"
    one, two = (load_radiograph(folder / f"IM-0002-000{film}.jpeg").pixels for film in (1, 2))
    other = load_radiograph(folder / "IM-0001-0001.jpeg").pixels
    assert 0 < np.abs(one - two).mean() < 0.02 < np.abs(one - other).mean()
