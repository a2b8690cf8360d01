"""The gate says what it measured, what is allowed and what to do."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_core.gate import check
from cxr_core.images import Facts, Radiograph


@pytest.fixture
def film(phantom_film):
    return phantom_film


def with_facts(film: Radiograph, **facts) -> Radiograph:
    return replace(film, facts=replace(film.facts, **facts))


def verdicts(film, card, **stated):
    report = check(film, card, **stated)
    return report.verdict, {item.name: item.verdict for item in report.checks}


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (None, "caution"),
        (1.0, "ok"),
        (3.0, "ok"),
        (5.9, "ok"),
        (6.0, "refuse"),
        (0.5, "refuse"),
        (40.0, "refuse"),
    ],
)
def test_age_is_completed_years_and_unstated_is_a_caution(film, made_card, age, verdict):
    assert verdicts(with_facts(film, age_years=age), made_card)[1]["age"] == verdict
    assert verdicts(film, made_card, age_years=age)[1]["age"] == verdict


def test_the_stated_age_counts_more_than_the_files(film, made_card):
    assert verdicts(with_facts(film, age_years=50), made_card, age_years=3)[1]["age"] == "ok"


def test_a_model_without_age_range_takes_any_age(film, made_card):
    assert verdicts(film, replace(made_card, age_range=None))[0] == "ok"


@pytest.mark.parametrize(
    ("facts", "name", "verdict"),
    [
        ({"view": "AP"}, "view", "ok"),
        ({"view": "LL"}, "view", "refuse"),
        ({"view": "LEFT LATERAL"}, "view", "refuse"),
        ({"body_part": "TORAX"}, "body part", "ok"),
        ({"body_part": "UNKNOWN"}, "body part", "caution"),
        ({"view": "OBLIQUE"}, "view", "caution"),
        ({"body_part": "RIBCAGE"}, "body part", "ok"),
        ({"body_part": "TIBIA"}, "body part", "refuse"),
        ({"body_part": "THORACIC SPINE"}, "body part", "refuse"),
        ({"body_part": "thoracolumbar spine"}, "body part", "refuse"),
        ({"body_part": "THORACOLUMBAR"}, "body part", "refuse"),
        ({"body_part": "CERVICAL RIB"}, "body part", "refuse"),
        ({"body_part": "TSPINE"}, "body part", "refuse"),
        ({"body_part": "THORAX"}, "body part", "ok"),
        ({"modality": "DX"}, "modality", "ok"),
        ({"modality": "CT"}, "modality", "refuse"),
        ({"modality": "OT"}, "modality", "caution"),
        ({"colourfulness": 0.3}, "colour", "refuse"),
        ({"colourfulness": 0.03}, "colour", "caution"),
    ],
)
def test_facts_are_compared_with_what_the_model_knows(film, made_card, facts, name, verdict):
    assert verdicts(with_facts(film, **facts), made_card, age_years=3)[1][name] == verdict


@pytest.mark.parametrize(("side", "verdict"), [(64, "ok"), (63, "caution"), (31, "refuse")])
def test_small_films_are_told(made_card, side, verdict):
    pixels = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (side, 1))
    small = Radiograph(pixels, Facts("PNG", 8, "MONOCHROME2"), "0" * 64)
    assert verdicts(small, made_card, age_years=3)[1]["resolution"] == verdict


def test_a_film_without_contrast_is_refused(made_card):
    pixels = np.full((100, 100), 0.5, np.float32)
    pixels[0] = 0.6
    faint = Radiograph(pixels, Facts("PNG", 8, "MONOCHROME2"), "0" * 64)
    assert verdicts(faint, made_card, age_years=3)[1]["contrast"] == "refuse"


def test_a_good_film_passes_and_the_worst_check_decides(film, made_card):
    assert verdicts(film, made_card, age_years=3)[0] == "ok"
    assert verdicts(film, made_card)[0] == "caution"
    report = check(with_facts(film, body_part="HAND"), made_card)
    assert report.refused
    assert [item.name for item in report.by_verdict("refuse")] == ["body part"]


def test_everything_refused_says_what_to_do(film, made_card):
    odd = with_facts(film, view="LL", body_part="HAND", modality="MR", colourfulness=0.5)
    for item in check(odd, made_card, age_years=70).by_verdict("refuse"):
        assert item.reason.endswith(".") and item.mend.endswith(".") and item.limit


def test_real_frontal_films_pass_and_dicom_of_other_parts_do_not(data, made_card):
    from cxr_core.images import load_radiograph

    for folder in ("pediatric_fullres/NORMAL", "covid_radiography/COVID"):
        for path in sorted((data / folder).iterdir())[:12]:
            assert check(load_radiograph(path), made_card, age_years=3).verdict == "ok", path
    tibia = load_radiograph(data / "dicom" / "cr_tibia_mono1_jpeg2000.dcm")
    assert check(tibia, made_card, age_years=3).refused
