"""The report card of explanations: what the numbers allow to be said, and its file."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxr_core.cards import is_current, list_models, load_card, load_explanations, model_folder
from cxr_core.errors import DataError, ModelError, UnknownName
from cxr_core.explanations import (
    VERDICTS,
    ExplanationReport,
    Faithfulness,
    Gain,
    Localisation,
    Measured,
    Randomisation,
    Repeatability,
    Settings,
    Stage,
    areas,
)
from cxr_core.ranking import NO_INTERVAL, Interval

ABOVE, AROUND, BELOW = Interval(0.5, 0.1, 0.9), Interval(0.5, -0.1, 0.9), Interval(-1.0, -2.0, -0.5)


def gain(over_random=ABOVE, over_centre=ABOVE) -> Gain:
    return Gain(
        method=(2.0, 0.5, -1.0),
        random=(2.0, 1.0, -1.0),
        centre=(2.0, 1.5, -1.0),
        over_random=over_random,
        over_centre=over_centre,
    )


def curves(deletion=None, insertion=None, films=20) -> Faithfulness:
    return Faithfulness(
        films=films, flagged=films // 2, deletion=deletion or gain(), insertion=insertion or gain()
    )


def localised(over_point=ABOVE, hits=20, centre_hits=4, point_hits=12) -> Localisation:
    return Localisation(
        boxes=35,
        films=31,
        flagged=25,
        hits=hits,
        pointing=Interval(round(hits / 31, 5), 0.4, 0.8),
        centre_hits=centre_hits,
        point_hits=point_hits,
        over_point=over_point,
        iou=Interval(0.3, 0.2, 0.4),
        box_iou=0.2,
        over_box=ABOVE,
    )


def cascade(last: float | None) -> Randomisation:
    stages = [
        Stage(layers=1, down_to="logits", similarity=Interval(0.8, 0.7, 0.9)),
        Stage(layers=9, down_to="stem", similarity=Interval(last, last, last)),
    ]
    return Randomisation(films=6, stages=tuple(stages))


def report(*entries: Measured) -> ExplanationReport:
    return ExplanationReport(
        model="made",
        version="1",
        digest="0" * 64,
        date="2026-11-21",
        command="python -m cxr_core faithfulness --model made --data films --films 20",
        data="films",
        part="test",
        films=20,
        seed=0,
        sister=None,
        settings=Settings(
            grid=16,
            steps=2,
            replaced_by="blur",
            scale="logit",
            random_orders=3,
            mask="half",
            rounds=1000,
        ),
        notes=("Made by hand.",),
        entries=entries,
    )


FULL = Measured(
    method="grad-cam",
    label="Pneumonia",
    faithfulness=curves(),
    localisation=localised(),
    randomisation=cascade(0.1),
    repeatability=Repeatability(films=20, similarity=ABOVE),
)


# --- verdicts ---


def test_areas_by_hand():
    """Trapezes of (0, 1, 0): 0.25 + 0.25; a level line is its level."""
    assert areas([[0, 1, 0], [3, 3, 3]]).tolist() == [0.5, 3]


@pytest.mark.parametrize(
    ("found", "verdict", "reason"),
    [
        (curves(), "faithful", "By deletion and by insertion better than at random"),
        (curves(films=7), "not assessable", "7 films"),
        (
            curves(deletion=gain(over_random=BELOW)),
            "no better than chance",
            "By deletion not better than in random order.",
        ),
        (curves(insertion=gain(over_random=BELOW)), "no better than chance", "By insertion not"),
        (
            curves(insertion=gain(over_centre=BELOW)),
            "no better than the centre",
            "by insertion not better than centre first.",
        ),
        (
            curves(gain(over_centre=AROUND), gain(over_centre=BELOW)),
            "no better than the centre",
            "by deletion and by insertion not better than centre first.",
        ),
        # A gain of one curve makes up for no doubt about the other.
        (
            curves(deletion=gain(over_random=Interval(9.0, 8.0, 10.0)), insertion=gain(AROUND)),
            "no better than chance",
            "By insertion not",
        ),
        (curves(deletion=gain(over_random=Interval(0.2, 0.0, 0.4))), "no better than chance", "By"),
        (curves(insertion=gain(NO_INTERVAL)), "no better than chance", "By insertion not"),
        # What beats the centre alone is no better than chance.
        (curves(gain(AROUND, ABOVE), gain(AROUND, ABOVE)), "no better than chance", "and by"),
    ],
)
def test_a_map_is_faithful_when_each_curve_alone_beats_both_orders(found, verdict, reason):
    assert found.verdict == verdict
    assert reason in found.reason


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_a_map_is_faithful_only_with_four_intervals_above_nothing(lows):
    """Each low end is that of one of two curves against one of two orders."""
    first, second, third, fourth = (Interval(low + 1, low, low + 2) for low in lows)

    found = curves(gain(first, second), gain(third, fourth))

    assert (found.verdict == "faithful") == all(low > 0 for low in lows)


@pytest.mark.parametrize(
    ("found", "verdict", "reason"),
    [
        (localised(), "points", "Hits 20 of 31 films; a fixed point hits 12."),
        (localised(AROUND, hits=14), "do not use to localise", "chance alone may explain"),
        (localised(BELOW, hits=2), "do not use to localise", "Hits 2 of 31 films"),
        (localised(centre_hits=30), "points", "the centre hits 30"),
        (Localisation(boxes=3, films=3), "not assessable", "n = 3 boxes."),
        (Localisation(boxes=1, films=1), "not assessable", "n = 1 box."),
    ],
)
def test_a_map_points_only_when_it_beats_the_fixed_point(found, verdict, reason):
    assert found.verdict == verdict
    assert reason in found.reason


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        (0.49, "depends on the weights"),
        (0.5, "does not depend on the weights"),
        (-0.7, "depends on the weights"),
        (None, "not assessable"),
    ],
)
def test_a_map_must_fall_with_the_weights(last, verdict):
    assert cascade(last).verdict == verdict


def test_without_stages_nothing_is_known():
    nothing = Randomisation(films=0, stages=())

    assert (nothing.verdict, nothing.reason) == ("not assessable", "Not measured.")


def emptied(similarity: Interval, *flat: int | None) -> Randomisation:
    """Six films, and for each stage how many of them had an empty map."""
    stages = [Stage(layers=1, down_to="logits", similarity=similarity, flat=one) for one in flat]
    return Randomisation(films=6, stages=tuple(stages))


NOUGHT, LITTLE = Interval(0.0, 0.0, 0.0), Interval(0.1, 0.0, 0.2)


@pytest.mark.parametrize(
    ("found", "verdict", "reason"),
    [
        # Records from before empty maps were counted hold nothing but 0 for them.
        (cascade(0.0), "not assessable", "The maps of shuffled weights are empty."),
        (emptied(NOUGHT, None), "not assessable", "The maps are empty."),
        (emptied(NO_INTERVAL, 0, 6), "not assessable", "The maps of shuffled weights are empty."),
        (emptied(NO_INTERVAL, 6, 6), "not assessable", "The maps are empty."),
        (
            emptied(LITTLE, 0, 4),
            *("not assessable", "The maps of shuffled weights of 4 of 6 films are empty."),
        ),
        (emptied(LITTLE, 0, 3), "depends on the weights", "a rank correlation of 0.10"),
        (emptied(NOUGHT, 0), "depends on the weights", "a rank correlation of 0.00"),
        (emptied(LITTLE, None), "depends on the weights", "a rank correlation of 0.10"),
    ],
)
def test_empty_maps_of_shuffled_weights_pass_no_test(found, verdict, reason):
    assert found.verdict == verdict
    assert reason in found.reason


# --- the line under a map ---


def test_the_line_under_a_map_says_where_it_points_and_what_the_score_follows():
    told = report(FULL)

    assert told.verdict("grad-cam", "Pneumonia") == (
        "Points (hits 20 of 31 films, a fixed point 12); faithful to the score."
    )
    assert told.verdict("grad-cam", "Hernia") == "Not measured on this finding."
    assert told.verdict("unheard-of", "Pneumonia") == "Not measured on this finding."


def test_films_without_boxes_leave_localisation_open():
    entry = replace(FULL, localisation=None, faithfulness=curves(insertion=gain(BELOW)))

    assert report(entry).verdict("grad-cam", "Pneumonia") == (
        "Localisation not assessable (no boxes); no more faithful to the score than chance."
    )


def test_a_map_that_outlives_the_weights_is_named():
    entry = replace(FULL, randomisation=cascade(0.9), localisation=Localisation(boxes=3, films=2))

    assert report(entry).verdict("grad-cam", "Pneumonia") == (
        "Localisation not assessable (n = 3 boxes); faithful to the score; looks alike with "
        "shuffled weights."
    )


intervals = st.sampled_from([ABOVE, AROUND, BELOW, NO_INTERVAL])


@given(intervals, intervals, intervals, st.integers(0, 30), st.booleans())
def test_every_line_is_one_short_sentence(first, second, place, films, boxed):
    entry = replace(
        FULL,
        faithfulness=curves(gain(first, second), gain(second, first), films),
        localisation=localised(place) if boxed else None,
    )
    line = report(entry).verdict("grad-cam", "Pneumonia")

    assert line.endswith(".") and line.count(".") == 1 and "\n" not in line
    assert len(line) < 160
    assert entry.faithfulness.verdict in VERDICTS
    assert entry.localisation is None or entry.localisation.verdict in VERDICTS


# --- the file ---


def test_the_file_gives_back_what_was_written():
    bare = Measured(method="occlusion", label="Pneumonia")
    few = replace(FULL, label="Nodule", localisation=Localisation(boxes=3, films=3))
    told = report(FULL, few, bare)

    again = ExplanationReport.from_json(json.loads(json.dumps(told.to_json())))

    assert again == told
    assert again.methods == ("grad-cam", "occlusion")
    assert again.labels == ("Pneumonia", "Nodule")


def test_records_from_before_empty_maps_were_counted_are_read():
    values = report(FULL).to_json()
    (entry,) = values["entries"]
    for part in (*entry["randomisation"]["stages"], entry["repeatability"]):
        assert part.pop("flat") is None

    assert ExplanationReport.from_json(values) == report(FULL)


def test_counts_of_empty_maps_are_kept():
    again = replace(FULL.repeatability, flat=2)
    told = report(replace(FULL, randomisation=emptied(NO_INTERVAL, 1, 6), repeatability=again))

    assert ExplanationReport.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_the_file_says_its_verdicts_to_readers_without_this_module():
    entry = report(FULL).to_json()["entries"][0]

    assert entry["faithfulness"]["verdict"] == "faithful"
    assert entry["localisation"]["verdict"] == "points"
    assert entry["randomisation"]["verdict"] == "depends on the weights"
    assert entry["sentence"].startswith("Points")
    assert entry["localisation"]["pointing_ci"] == [0.4, 0.8]


def test_verdicts_follow_from_the_numbers_not_from_the_file():
    values = report(replace(FULL, localisation=localised(BELOW, hits=1))).to_json()
    values["entries"][0]["localisation"]["verdict"] = "points"

    again = ExplanationReport.from_json(values)

    assert again.entries[0].localisation.verdict == "do not use to localise"


def test_numbers_are_kept_to_five_decimals():
    entry = replace(FULL, repeatability=Repeatability(films=3, similarity=Interval(1 / 3, 0, 1)))

    assert report(entry).to_json()["entries"][0]["repeatability"]["similarity"] == 0.33333


@pytest.mark.parametrize("key", ["model", "settings", "entries", "digest"])
def test_a_missing_key_is_told(key):
    values = report(FULL).to_json()
    del values[key]

    with pytest.raises(DataError, match="faithfulness"):
        ExplanationReport.from_json(values)


@pytest.fixture
def models(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "card.json").write_text("{}")
    return tmp_path


def test_a_model_that_nobody_measured_has_no_record(models):
    assert load_explanations("made", models) is None
    with pytest.raises(UnknownName):
        load_explanations("other", models)


def test_a_record_is_loaded_by_the_models_name(models):
    (models / "made" / "explanations.json").write_text(json.dumps(report(FULL).to_json()))

    assert load_explanations("made", models) == report(FULL)


def test_a_record_is_of_one_version_and_its_weights(models, made_card):
    told = replace(report(FULL), version=made_card.version)
    assert is_current(told, made_card, models), "a bundle without weights is known by its version"
    assert not is_current(replace(told, version="older"), made_card, models)

    (models / "made" / "model.keras").write_bytes(b"weights")

    assert not is_current(told, made_card, models)
    own = replace(told, digest=hashlib.sha256(b"weights").hexdigest())
    assert is_current(own, made_card, models)
    assert is_current(replace(own, version="older"), made_card, models), "the same weights"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "made"}', '{"entries": 3}'])
def test_a_damaged_record_says_how_to_make_another(models, text):
    (models / "made" / "explanations.json").write_text(text)

    with pytest.raises(ModelError, match="python -m cxr_core faithfulness --model made"):
        load_explanations("made", models)


WITH_WEIGHTS = [
    card.name for card in list_models() if (model_folder(card.name) / "model.keras").is_file()
]


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_every_shipped_model_carries_the_record_of_its_own_weights(name):
    """Missing or stale: python -m cxr_core faithfulness --model NAME --data FOLDER."""
    card, folder = load_card(name), model_folder(name)

    told = load_explanations(name)

    assert told is not None and told.model == name
    assert told.to_json() == json.loads((folder / "explanations.json").read_text("utf-8"))
    assert is_current(told, card)
    assert set(told.labels) <= set(card.labels)
    assert "grad-cam" in told.methods
    with Image.open(folder / "mean_film.png") as mean:
        assert mean.mode == "L" and mean.size == (card.preprocessing.size,) * 2


def test_areas_are_those_of_numpys_trapezoid():
    values = np.random.default_rng(0).normal(size=(3, 17))

    assert areas(values) == pytest.approx(np.trapezoid(values, dx=1 / 16, axis=-1))
