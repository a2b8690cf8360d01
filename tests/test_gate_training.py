"""How the gate's network is made: who is held out, what it is shown, how limits are chosen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from statsmodels.stats.proportion import proportion_confint

from cxr_core.__main__ import main
from cxr_core.cards import model_folder
from cxr_core.datasets import Film
from cxr_core.errors import ArgumentError, DataError, TrainingError
from cxr_core.gate import (
    BONE,
    EXTENTS,
    FRONTAL,
    KINDS,
    LABELS,
    LATERAL,
    OTHER,
    PHOTOGRAPH,
    SIDES,
    SLICE,
    TONES,
    TURNS,
    load_gate,
)
from cxr_core.gate_training import (
    chimeras,
    claims,
    fit,
    limits,
    pictures,
    protocol,
    record,
    train_gate,
    trainings,
)
from cxr_core.gate_training.films import (
    CHILDREN,
    MISFILED,
    Collection,
    frontal_films,
    other_pictures,
)
from cxr_core.phantom import thorax

EVERYTHING = {label: k for k, label in enumerate(LABELS)}


@pytest.fixture(scope="module")
def material() -> fit.Material:
    """Phantoms as films; and as other kinds pictures that are plainly something else."""
    films = [np.rint(thorax(128, 128, seed=k).pixels * 255).astype(np.uint8) for k in range(6)]
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (3, 128, 128), np.uint8)
    return fit.Material(
        {"pediatric": np.stack(films[:3]), "phantom": np.stack(films[3:])},
        {LATERAL: noise, BONE: noise, SLICE: noise, PHOTOGRAPH: noise},
    )


# --- who is held out ---


def test_no_film_that_is_scored_trains_or_chooses(data):
    full = {path.name for path in (data / "pediatric_fullres").rglob("*.jp*g")}
    for name, part in frontal_films(data, 0).items():
        seen = {film.digest for film in (*part.train, *part.validation)}
        people = {film.patient for film in (*part.train, *part.validation)}
        assert not seen & {film.digest for film in part.test}, name
        assert not people & {film.patient for film in part.test}, name
        assert not {film.file.rpartition("/")[2] for film in (*part.train, *part.validation)} & full


def test_thirds_of_the_children_cover_all_by_patient_and_never_meet(data):
    deals = [frontal_films(data, third) for third in range(3)]
    adults = deals[0]["nih"]
    known = {film.patient for film in (*adults.train, *adults.validation, *adults.test)}
    scored = [film.file for deal in deals for film in deal[CHILDREN].test]
    assert len(scored) == len(set(scored)) == 89
    for deal in deals:
        part = deal[CHILDREN]
        assert not part.validation, "they are too few to choose anything"
        assert max(film.age_years for film in (*part.train, *part.test)) < 18
        assert not {f.patient for f in part.train} & {f.patient for f in part.test}
        assert not {f.patient for f in (*part.train, *part.test)} & known
        assert {f.file for f in (*part.train, *part.test)} == set(scored)
        assert len(part.test) > 15


def test_thirds_of_other_pictures_cover_all_and_never_meet(data):
    deals = [other_pictures(data, third) for third in range(3)]
    scored = [film.file for deal in deals for film in deal.test]
    assert len(scored) == len(set(scored)) == 246 - len(MISFILED)
    for deal in deals:
        assert not {f.digest for f in deal.train} & {f.digest for f in deal.test}
        assert {f.file for f in deal.train} | {f.file for f in deal.test} == set(scored)
        assert min(len(deal.test), len(deal.train)) > 60


def test_a_kind_left_out_trains_nothing_and_is_scored_whole(data):
    deal = other_pictures(data, 2, frozenset({"bone", "hand"}))
    assert not [film for film in deal.train if film.file.startswith(("bone", "hand"))]
    assert len([film for film in deal.test if film.file.startswith("bone")]) == 40 - len(MISFILED)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="not_chest_xray"):
        other_pictures(tmp_path, 0)
    with pytest.raises(DataError, match="pediatric_pneumonia"):
        frontal_films(tmp_path, 0)


# --- what it is shown ---


@pytest.mark.parametrize("seed", range(8))
def test_made_pictures_are_squares_of_pixels(seed):
    random = np.random.default_rng(seed)
    square = np.rint(thorax(128, 128, seed=seed).pixels * 255).astype(np.uint8)
    for made in (
        pictures.window(square, random, (0.1, 0.9)),
        pictures.cut_up(square, random),
        pictures.collage([square, square], random),
        pictures.page_of_text(random),
        pictures.screenshot(square, random),
        pictures.texture(random),
        pictures.shapes(random),
        pictures.one_sided(square, random, (0.3, 0.6)),
        pictures.filling(pictures.bordered(pictures.texture(random), random, 0.16)),
        pictures.bordered(pictures.window(square, random, (1, 1)), random, 0.16),
        chimeras.limb(lambda s=square: s, random),
        chimeras.fan(lambda s=square: s, random),
        chimeras.skull(lambda s=square: s, random),
        chimeras.mirror_image(lambda s=square: s, random),
        chimeras.repeated(lambda s=square: s, random),
        chimeras.bent(lambda s=square: s, random),
        chimeras.chimera(lambda s=square: s, random),
        pictures.no_film(lambda s=square: s, lambda s=square: s, random),
    ):
        assert made.shape == (pictures.SIDE, pictures.SIDE)
        assert made.dtype == np.float32
        assert 0 <= made.min() <= made.max() <= 1


def test_a_window_on_everything_is_the_film():
    square = np.repeat(np.repeat(np.arange(64, dtype=np.uint8)[:, None], 64, 1), 2, 0).repeat(2, 1)
    whole = pictures.window(square, np.random.default_rng(0), (10.0, 10.0))
    # Interpolated near an edge between two rows of one value only.
    assert_allclose(whole * 255, np.arange(64)[:, None] * np.ones(64), atol=0.51)


def test_a_part_is_cut_out_where_its_box_says():
    rows, columns = np.mgrid[0:128, 0:128].astype(np.uint8)
    quarter = pictures.cropped(columns, record.PARTS["central quarters of films"])
    assert_allclose(quarter[0] * 255, np.arange(32, 96), atol=1e-4)
    chests = pictures.cropped(rows, record.PARTS["films with the bases cut off"])
    # 64 rows stand for the upper 76.8 of 128, each 1.2 of them.
    assert_allclose(chests[1:-1, 0] * 255, 1.2 * np.arange(1, 63) + 0.1, atol=0.51)


@pytest.mark.parametrize("seed", range(6))
def test_one_side_alone_is_cut_away_by_the_share_that_was_asked(seed):
    rows, columns = np.mgrid[0:128, 0:128].astype(np.uint8)
    ramps = [
        pictures.one_sided(ramp, np.random.default_rng(seed), (0.25, 0.25)) * 255
        for ramp in (rows, columns)
    ]
    ends = np.array(sorted((ramp.min(), ramp.max()) for ramp in ramps))
    # Two rows are averaged at each end. One way nothing is cut away, the other way a quarter.
    ways = ([(0, 95), (0, 127)], [(0, 127), (32, 127)])
    assert min(np.abs(ends - np.array(way)).max() for way in ways) <= 1


def test_a_film_is_shown_with_what_is_called_of_it(monkeypatch):
    monkeypatch.setattr(fit, "BORDER", (0.0, 0.16))
    ramp = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
    random = np.random.default_rng(0)
    areas = {fit.WHOLE: [], fit.BETWEEN: [], fit.CUT: []}
    for _ in range(200):
        seed = int(random.integers(2**32))
        across, extent = fit._film(ramp, np.random.default_rng(seed))
        down, same = fit._film(ramp.T.copy(), np.random.default_rng(seed))
        assert extent == same
        areas[extent].append(np.ptp(across) * np.ptp(down) * (255 / 127) ** 2)
    assert min(areas[fit.WHOLE]) > 0.7 > max(areas[fit.CUT])
    assert min(map(len, areas.values())) > 5


def test_cutting_up_keeps_every_piece():
    square = np.rint(thorax(128, 128, seed=1).pixels * 255).astype(np.uint8)
    for seed in range(20):
        made = pictures.cut_up(square, np.random.default_rng(seed))
        film = pictures.window(square, np.random.default_rng(0), (10.0, 10.0))
        cells = int(np.random.default_rng(seed).integers(2, 5))
        side = pictures.SIDE // cells * cells
        assert_allclose(np.sort(made[:side, :side], None), np.sort(film[:side, :side], None))


def test_faults_are_mirrored_then_turned_then_inverted():
    film = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    assert_allclose(fit.faulty(film, 0, 1, 0), [[0.2, 0.1], [0.4, 0.3]])
    assert_allclose(fit.faulty(film, 1, 0, 0), [[0.2, 0.4], [0.1, 0.3]])
    assert_allclose(fit.faulty(film, 1, 1, 1), [[0.9, 0.7], [0.8, 0.6]])


def test_targets_answer_every_question_about_films_and_one_about_others():
    def answers(*told):
        return {LABELS[k] for k in np.flatnonzero(fit._target(*told))}

    faults = {TURNS[2], SIDES[1], TONES[0]}
    assert answers(FRONTAL, fit.WHOLE, 2, 1, 0) == {KINDS[FRONTAL], EXTENTS[0]} | faults
    assert answers(FRONTAL, fit.BETWEEN, 2, 1, 0) == {KINDS[FRONTAL]} | faults
    assert answers(FRONTAL, fit.CUT, 2, 1, 0) == {EXTENTS[1]} | faults
    assert answers(PHOTOGRAPH, fit.CUT, 2, 1, 0) == {KINDS[PHOTOGRAPH], EXTENTS[1]}
    assert answers(OTHER, fit.CUT, 0, 0, 1) == {KINDS[OTHER], EXTENTS[1]}


def test_a_question_without_an_answer_costs_nothing():
    logits = np.random.default_rng(0).normal(size=(1, len(LABELS))).astype(np.float32)
    target = fit._target(BONE, fit.BETWEEN, 1, 1, 1)[None]
    kinds = logits[0, : len(KINDS)].astype(np.float64)
    by_hand = np.log(np.exp(kinds).sum()) - kinds[BONE]
    assert_allclose(np.asarray(fit.loss(target, logits)), [by_hand], rtol=1e-5)
    every = fit._target(FRONTAL, fit.WHOLE, 0, 0, 0)[None]
    whole = np.asarray(fit.loss(every, np.zeros_like(logits)))
    assert_allclose(whole, [np.log(6) + np.log(4) + 3 * np.log(2)], rtol=1e-5)


def test_a_batch_is_the_same_for_the_same_numbers(material):
    one, other = (fit.batch(material, np.random.default_rng(3)) for _ in range(2))
    assert one[0].shape == (fit.BATCH, 64, 64, 1)
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b)
    third = fit.batch(material, np.random.default_rng(4))
    assert not np.array_equal(one[0], third[0])
    assert set(np.unique(one[1])) == {0, 1}


def test_a_short_training_learns(material):
    network, history = fit.fit(material, seed=0, steps=40)
    assert history["step"] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert np.mean(history["loss"][-3:]) < 0.8 * history["loss"][0]
    assert network.output_shape == (None, len(LABELS))


# --- limits ---


def test_the_highest_limit_leaves_out_no_more_than_its_share():
    scores = np.arange(10) / 10
    assert limits.highest_limit(scores, 0.0) == 0.0
    assert limits.highest_limit(scores, 0.2) == 0.2  # 0.0 and 0.1 lie below
    assert limits.highest_limit(scores, 0.29) == 0.2
    assert limits.highest_limit(scores, 1.0) == 0.9


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    share=st.floats(0, 1, exclude_max=True),
)
def test_a_limit_is_kept_and_no_higher_one_would_be(scores, share):
    limit = limits.highest_limit(np.array(scores), share)
    assert np.mean(np.array(scores) < limit) <= share
    higher = [score for score in scores if score > limit]
    if higher:
        assert np.mean(np.array(scores) < min(higher)) > share


# --- the record ---


@pytest.mark.parametrize(("count", "n"), [(0, 30), (3, 624), (30, 30), (29, 29), (1, 6)])
def test_rates_have_wilsons_interval_and_claim_nothing_below_thirty(count, n):
    rate = record.Rate.of("films", "refused", "shipped", [True] * count + [False] * (n - count))
    low, high = proportion_confint(count, n, method="wilson")
    assert (rate.n, rate.count) == (n, count)
    assert_allclose((rate.low, rate.high), (low, high), atol=1e-12)
    assert rate.note == ("n too small" if n < 30 else "")


def test_a_group_without_pictures_has_no_rate():
    rate = record.Rate.of("films", "refused", "shipped", [])
    assert (rate.n, rate.share, rate.note) == (0, None, "n too small")


def test_deals_add_up():
    rates = [record.Rate.of("bones", "refused", f"third {k}", [True] * k + [False]) for k in (1, 2)]
    whole = record.pooled(rates, "three deals")
    assert (whole.n, whole.count, whole.network) == (5, 3, "three deals")
    lost = record.Rate.of("bones", "refused", "third 2", [], 2)
    assert record.pooled([*rates, lost], "three deals").unreadable == 2


def test_a_file_that_cannot_be_read_is_counted_apart(tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no picture")
    films = [("film", lambda: thorax(128, 112, seed=1))]
    source = [*films, *record.files([tmp_path / "torn.png"])]
    rates, seen = record.frontal_rates(load_gate(), {"films": source})
    assert [(rate.asked, rate.n, rate.unreadable) for rate in rates] == [
        ("refused", 1, 1),
        ("cautioned", 1, 1),
    ]
    assert [one.file for one in seen["films"]] == ["film"]
    ((rate, _),) = record.refusals(load_gate(), {"films": source}, "shipped")
    assert (rate.n, rate.unreadable) == (1, 1)
    assert {rate.unreadable for rate in record.fault_rates(load_gate(), source)} == {1}


def test_parts_of_films_are_made_of_the_very_films(monkeypatch):
    monkeypatch.setattr(record, "MADE", 2)
    films = [(f"phantom {k}", lambda k=k: thorax(200, 160, seed=k)) for k in range(2)]
    wholes = {name: read().pixels for name, read in films}
    groups = record.changed_groups(films, 0)
    kept = {
        "central quarters of films": np.s_[50:150, 40:120],
        "films with the bases cut off": np.s_[:120],
        "films with the apices cut off": np.s_[80:],
        "films with the right flank cut off": np.s_[:, 64:],
        "films with the left flank cut off": np.s_[:, :96],
        "films without their lowest fifth": np.s_[:160],
    }
    assert set(kept) == set(record.PARTS)
    for group, place in kept.items():
        for name, read in groups[group]:
            assert_array_equal(read().pixels, wholes[name][place])
    for name, read in groups["films in even white borders"]:
        framed = read().pixels
        assert framed.shape == (248, 208)
        assert_array_equal(framed[24:-24, 24:-24], wholes[name])
        assert framed[:24].min() == framed[:, -24:].min() == 1


def test_pictures_are_made_of_the_very_films(monkeypatch):
    monkeypatch.setattr(record, "MADE", 2)
    films = [(f"phantom {k}", lambda k=k: thorax(128, 128, seed=k)) for k in range(2)]
    for name, source in record.made_groups(films, 0).items():
        assert [read().pixels.shape for _, read in source] == [(64, 64)] * 2, name


def test_the_shipped_record_claims_what_its_counts_say():
    told = json.loads((model_folder("gate") / "evaluation.json").read_text("utf-8"))
    assert told["scorings"] and told["protocol"]
    for rate in told["rates"]:
        again = record.Rate.of(
            rate["group"],
            rate["asked"],
            rate["network"],
            [True] * rate["count"] + [False] * (rate["n"] - rate["count"]),
            rate["unreadable"],
        )
        assert again.to_json() == pytest.approx(rate)


FRONTAL_GROUPS = ("pediatric", "NIH", "COVID", "DICOM", "computer-made", "films in even black")
# Parts of which little is missing may pass: nothing is wanted of them.
EITHER = "films without their lowest fifth"
# What is known to fall short, by group, what was counted, and network: so many of n.
SHORT = {
    ("NIH, under 18 years", "refused", "three deals"): (4, 89),
    ("bones and hands", "refused", "without-bones"): (41, 43),
    ("films with the bases cut off", "refused", "shipped"): (97, 200),
    ("films with the apices cut off", "refused", "shipped"): (21, 200),
    ("films with the right flank cut off", "refused", "shipped"): (128, 200),
    ("films with the left flank cut off", "refused", "shipped"): (169, 200),
}


def falls_short(rate: dict) -> bool:
    """Say whether more than 1 % of good films, or less than 97 % of all else, is refused."""
    if rate["group"].startswith(FRONTAL_GROUPS):
        return rate["share"] > 0.01
    return rate["share"] < 0.97


def test_the_shipped_gate_is_good_enough_to_ship():
    told = json.loads((model_folder("gate") / "evaluation.json").read_text("utf-8"))
    asked = [rate for rate in told["rates"] if rate["asked"].startswith("refused")]
    short = {
        (rate["group"], rate["asked"], rate["network"]): (rate["count"], rate["n"])
        for rate in asked
        if rate["n"] >= 30 and rate["group"] != EITHER and falls_short(rate)
    }
    assert short == SHORT, "nothing may fall short that is not named here"
    plans = {plan.name for plan in trainings.PLANS}
    assert {area["network"] for area in told["areas"]} == plans
    assert min(area["auroc"] for area in told["areas"]) >= 0.995
    groups = {rate["group"] for rate in asked}
    assert {*record.FAULTS, *record.PHOTOGRAPHS, *record.PICTURES} - {"mirrored"} <= groups
    assert sum(group.startswith(FRONTAL_GROUPS) for group in groups) == 9


@pytest.mark.slow
def test_the_gate_says_again_what_its_predictions_say(data):
    import csv

    with (model_folder("gate") / "predictions.csv").open(newline="") as file:
        rows = {
            row["file"]: row
            for row in csv.DictReader(file)
            if row["group"] == "pediatric test, 224 px"
        }
    gate = load_gate()
    folder = data / "pediatric_pneumonia" / "test"
    for path in sorted(folder.rglob("*.jp*g"))[::40]:
        (seen,) = record.see_all(gate, record.files([path]), record.unchanged)
        assert seen.frontal == pytest.approx(float(rows[path.name]["score_frontal"]), abs=1e-4)
        assert seen.report.verdict == rows[path.name]["verdict"]


# --- the command ---


def test_a_gate_that_is_there_is_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    (tmp_path / "gate").mkdir()
    with pytest.raises(ArgumentError, match="already"):
        train_gate(tmp_path)


def test_a_training_goes_on_only_with_its_own_seed(tmp_path, data):
    plan = trainings.SHIPPED
    (tmp_path / f"{plan.name}.keras").touch()
    (tmp_path / f"{plan.name}.json").write_text(json.dumps({"seed": 1, "history": {}}))
    with pytest.raises(TrainingError, match="seed 1, not 0"):
        trainings.train_plan(plan, data, tmp_path, seed=0)


def collection(*digests: str) -> Collection:
    """Films of those digests, all of which train."""
    return Collection(Path(), tuple(Film(d, (), d, None, d) for d in digests), (), ())


@pytest.fixture
def dealt(monkeypatch, material):
    """Two films and one picture, dealt and decoded from nowhere, and a training of one step."""
    there = {"pediatric": collection("a", "b")}
    monkeypatch.setattr(trainings, "frontal_films", lambda *_: there)
    monkeypatch.setattr(trainings, "other_pictures", lambda *_: collection("c"))
    squares = {"pediatric": material.films["pediatric"]}, dict(material.others)
    monkeypatch.setattr(trainings, "training_squares", lambda *_: squares)
    monkeypatch.setattr(trainings, "STEPS", 1)
    monkeypatch.setattr(trainings, "BASE_STEPS", 1)
    return there


def test_a_training_goes_on_only_with_its_own_films_and_settings(tmp_path, monkeypatch, dealt):
    def train():
        return trainings.train_plan(trainings.SHIPPED, tmp_path, tmp_path / "runs", seed=0)

    first = train()
    again = train()
    for kept, made in zip(again.network.get_weights(), first.network.get_weights(), strict=True):
        assert_array_equal(kept, made)
    dealt["pediatric"] = collection("a", "d")
    with pytest.raises(TrainingError, match=r"other films than are here now.*without --resume"):
        train()
    monkeypatch.setattr(fit, "BORDER", (0.3, 0.16))
    with pytest.raises(TrainingError, match="other films and settings"):
        train()
    dealt["pediatric"] = collection("b", "a")
    with pytest.raises(TrainingError, match="other settings"):
        train()


def test_a_training_that_does_not_say_what_it_came_from_is_not_gone_on_with(tmp_path, dealt):
    (tmp_path / "shipped.keras").touch()
    (tmp_path / "shipped.json").write_text(json.dumps({"seed": 0, "history": {}}))
    with pytest.raises(TrainingError, match="does not say with which"):
        trainings.train_plan(trainings.SHIPPED, tmp_path, tmp_path, seed=0)


# --- what is claimed ---


def test_what_the_card_says_is_counted_from_what_was_dealt():
    def named(kind: str, count: int) -> tuple[Film, ...]:
        return tuple(Film(f"{kind}/{k}", (), "", None, "") for k in range(count))

    train = named("bone", 20) + named("brainmri", 30) + named("ct", 29) + named("lateral", 3)
    dealt = Collection(Path(), train, (), named("hand", 10) + named("ct", 1) + named("lateral", 1))
    collections = dict.fromkeys(("one", "two"), dealt)
    told = claims.limits(collections, dealt)
    assert told[0] == "At hand were only 4 lateral chest films: of these kinds it claims nothing."
    assert told[-1].startswith("Frontal films of 2 collections")
    assert any("50% of the area or less" in one and "30% of one side" in one for one in told)
    assert claims.limits(collections | {CHILDREN: dealt}, dealt) == told
    for more, left in ((25, "At hand were only 29 lateral"), (26, told[1])):
        again = replace(dealt, train=train + named("lateral", more))
        assert claims.limits(collections, again)[0].startswith(left)


def test_the_protocol_names_only_what_was_left_out_there(tmp_path):
    groups = {record.FULL_SIZE: [("film", lambda: thorax(64, 64, seed=0))] * 7}
    told = claims.protocol(tmp_path, groups)
    assert "7 pediatric films" in told
    assert record.WRONGLY_TAGGED not in told and "Taken out" not in told
    (misfiled,) = MISFILED
    for place in (
        tmp_path / "dicom" / record.WRONGLY_TAGGED,
        tmp_path / "not_chest_xray" / misfiled,
    ):
        place.parent.mkdir(parents=True)
        place.touch()
    told = claims.protocol(tmp_path, groups)
    assert f"{record.WRONGLY_TAGGED} is in no group" in told
    assert told.endswith(f"Taken out, for it is a chest film: {misfiled}.")


def test_every_plan_has_its_own_name_and_the_left_out_are_scored_alone(data):
    assert len({plan.name for plan in trainings.PLANS}) == len(trainings.PLANS)
    plan = trainings.LEFT_OUT[0]
    others = other_pictures(data, plan.third, plan.without)
    one = trainings.Trained(plan, None, {}, others, {})
    assert set(protocol._scored(plan, one)) == {"bones and hands"}


def test_beginning_anew_forgets_finished_trainings_only(tmp_path):
    for name in ("base.keras", "base.json", "shipped.keras", "shipped.json", "notes.txt"):
        (tmp_path / name).touch()
    trainings.forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("train", "gate", "--data", ".", "--epochs", "3"), 2, "not --epochs"),
        (("train", "gate", "--data", "."), 2, "already"),
        (("predict", "--model", "gate", "film.png"), 2, "'gate' is a gate"),
        (("explain", "--model", "gate", "--label", "x", "f.png", "-o", "o.png"), 2, "is a gate"),
        (("evaluate", "--model", "gate", "--data", "."), 2, "is a gate"),
    ],
)
def test_the_command_line_trains_the_gate_and_does_not_take_it_for_a_model(
    arguments, status, said, capsys
):
    assert main(arguments) == status
    assert said in capsys.readouterr().err
