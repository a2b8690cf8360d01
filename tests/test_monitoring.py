"""What the app saw against the test films: indices by hand, honest numbers, whole stories."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from bundles import CARD, table_of, write_bundle
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import chi2, ks_2samp
from streamlit.testing.v1 import AppTest

from cxr_core.__main__ import main
from cxr_core.cards import Inputs, load_card, models_root
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import wilson
from cxr_core.monitoring import CAUTION, DRIFT, FIRST_FILMS, drift, in_words, monitor
from cxr_core.records import Opinion, Read, Records

ROOT = Path(__file__).resolve().parents[1]
LABEL = "Pneumonia"
CARD_HERE = replace(CARD, operating_points=(0.5,), cannot_tell=((0.4, 0.5),))


def known_films(films: int = 400) -> Any:
    """Test films whose scores are spread evenly over 0 to 1, half of them with the finding."""
    scores = (np.arange(films) + 0.5) / films
    return table_of((LABEL,), (np.arange(films) % 2)[:, None], scores[:, None])


def read(
    number: int, score: float | None, at: str = "2026-03-04T10:00:00.000+00:00", **more: Any
) -> Read:
    """A film, answered or (without a score) refused."""
    told = [] if score is None else [answer(score)]
    verdict = "refuse" if score is None else more.pop("verdict", "ok")
    checks = [{"name": "contrast", "value": more.pop("contrast", 0.5), "verdict": "ok"}]
    checks.append({"name": "view", "value": "PA", "verdict": "ok"})
    return Read(
        digest=f"{number:064x}",
        model=more.pop("model", "made"),
        version=more.pop("version", "1"),
        gate={"verdict": verdict, "checks": checks},
        predictions=told,
        at=at,
    )


def answer(score: float) -> dict[str, Any]:
    return {
        "label": LABEL,
        "probability": score,
        "operating_point": 0.5,
        "flag": score >= 0.5,
        "cannot_tell": 0.4 <= score <= 0.5,
    }


def said(number: int, **more: Any) -> Opinion:
    return Opinion(digest=f"{number:064x}", label=LABEL, model="made", version="1", **more)


# --- the index ---


def test_the_index_by_hand():
    """Two bins of reference 5 and 5, seen 9 and 1: half a film is added to each bin."""
    old, new = [0.0] * 5 + [1.0] * 5, [0.0] * 9 + [1.0]
    found = drift("made", old, new)
    before, after = (5.5 / 11, 5.5 / 11), (9.5 / 11, 1.5 / 11)
    by_hand = sum((b - a) * math.log(b / a) for a, b in zip(before, after, strict=True))
    assert found.psi == pytest.approx(by_hand)
    assert found.chance == pytest.approx(3.841458820694124 * (1 / 10 + 1 / 10))
    assert found.ks == pytest.approx(0.4)
    assert (found.n, found.reference, found.verdict) == (10, 10, "too few")


def test_kolmogorov_smirnov_is_scipys():
    random = np.random.default_rng(0)
    old, new = random.normal(size=300), random.normal(0.3, 1, 120)
    found, known = drift("made", old, new), ks_2samp(old, new, method="exact")
    assert found.ks == pytest.approx(known.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(known.pvalue, rel=0.2)
    assert found.p_value >= known.pvalue


def test_what_has_not_changed_seldom_cries_out_and_what_has_does():
    """The share of false alarms keeps to what was promised; a shift by a deviation is seen."""
    random = np.random.default_rng(1)
    beyond, verdicts = 0, []
    for _ in range(400):
        found = drift("made", random.normal(size=600), random.normal(size=200))
        beyond += found.psi > found.chance
        verdicts.append(found.verdict)
    assert wilson(beyond, 400).low <= 0.05
    assert wilson(400 - verdicts.count("steady"), 400).low <= 0.05
    shifted = drift("made", random.normal(size=600), random.normal(1, 1, 200))
    assert shifted.verdict == "drift"


def test_comparisons_raise_what_chance_may_do():
    old, new = np.arange(200.0), np.arange(100.0)
    once, often = drift("made", old, new), drift("made", old, new, comparisons=40)
    assert once.psi == often.psi
    assert often.chance == pytest.approx(chi2.isf(0.05 / 40, 9) * (1 / 200 + 1 / 100))
    assert often.chance > once.chance


@pytest.mark.parametrize(("films", "verdict"), [(40, "too few"), (400, "steady")])
def test_few_films_say_nothing_even_of_themselves(films, verdict):
    """At 400 test films, chance alone reaches a drift until about 80 films came."""
    reference = np.linspace(0, 1, 400)
    assert drift("made", reference, np.linspace(0, 1, films)).verdict == verdict


def test_no_films_are_told_as_such():
    found = drift("made", [0.1, 0.2], [])
    assert (found.psi, found.ks, found.verdict) == (None, None, "too few")


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [[1.0]]])
def test_what_is_no_row_of_numbers_is_refused(values):
    with pytest.raises(ArgumentError, match="seen must be a row of finite numbers"):
        drift("made", [0.0, 1.0], values)
    with pytest.raises(ArgumentError, match="comparisons must be at least 1"):
        drift("made", [0.0], [0.0], comparisons=0)


numbers = some.lists(some.floats(0, 1), min_size=1, max_size=60)


@given(numbers, numbers)
def test_the_index_is_never_negative_and_verdicts_follow_from_it(old, new):
    found = drift("made", old, new)
    assert found.psi >= -1e-12 and found.chance > 0
    assert drift("made", old, old).psi == pytest.approx(0, abs=1e-12)
    if found.chance >= DRIFT:
        assert found.verdict == "too few"
    elif found.verdict == "steady":
        assert found.psi < max(CAUTION, found.chance)
    else:
        assert found.psi >= max(CAUTION, found.chance)
        assert (found.verdict == "drift") == (found.psi >= DRIFT)


@given(numbers, numbers)
def test_only_ranks_matter(old, new):
    """Numbers in the same order, however far apart, drift as far: also logits of scores."""
    rank = {value: float(place) ** 3 for place, value in enumerate(sorted({*old, *new}))}
    found = drift("made", old, new)
    ranked = drift("made", [rank[value] for value in old], [rank[value] for value in new])
    assert ranked.psi == found.psi
    assert ranked.ks == found.ks


# --- records ---


def test_rates_by_hand():
    """Ten films: two refused, one read with a caution, five flagged, one in the band."""
    scores = [0.1, 0.2, 0.45, 0.6, 0.7, 0.8, 0.9, 0.95]
    reads = [read(k, score) for k, score in enumerate(scores)]
    reads[0] = read(0, 0.1, verdict="caution")
    reads += [read(8, None), read(9, None)]
    report = monitor(CARD_HERE, known_films(), reads, [])
    whole = report.whole
    assert (whole.films, whole.refused, whole.cautioned) == (10, wilson(2, 10), wilson(1, 10))
    (one,) = whole.findings
    assert (one.flagged, one.undecided) == (wilson(5, 8), wilson(1, 8))
    assert (one.scores.n, one.scores.reference) == (8, 400)
    (test,) = report.tested
    assert test.flagged == wilson(200, 400)
    assert test.undecided == wilson(40, 400), "0.40 to 0.50 of an even spread, both ends inside"


def test_a_film_counts_once_as_it_was_last_read():
    """Refused upside down, then mended and answered."""
    first = read(1, None, "2026-03-04T10:00:00.000+00:00")
    second = read(1, 0.9, "2026-03-04T10:01:00.000+00:00")
    whole = monitor(CARD_HERE, known_films(), [first, second], []).whole
    assert (whole.films, whole.refused.value) == (1, 0.0)
    assert whole.findings[0].flagged == wilson(1, 1)


def test_other_models_other_versions_and_test_films_do_not_count():
    reads = [
        read(1, 0.9),
        read(2, 0.9, model="other"),
        read(3, 0.9, version="0"),
        read(4, 0.9),
    ]
    opinions = [said(4, stance="absent", flag=True, test_film="test/film.png")]
    report = monitor(CARD_HERE, known_films(), reads, opinions)
    assert report.whole.films == 1
    assert report.whole.findings[0].disagreed == wilson(0, 0)
    assert any("1 answers of other versions" in note for note in report.notes)
    assert any("1 test films" in note for note in report.notes)


def test_weeks_begin_on_monday():
    reads = [
        read(1, 0.9, "2026-03-01T23:59:59.999+00:00"),  # a Sunday
        read(2, 0.9, "2026-03-02T00:00:00.000+00:00"),  # a Monday
        read(3, None, "2026-03-08T12:00:00.000+00:00"),  # the Sunday after
    ]
    weeks = monitor(CARD_HERE, known_films(), reads, []).weeks
    assert [(week.name, week.films) for week in weeks] == [("2026-02-23", 1), ("2026-03-02", 2)]
    assert weeks[1].refused == wilson(1, 2)


def test_readers_last_words_count_once_each():
    at = "2026-03-04T10:00:00.000+00:00"
    opinions = [
        said(1, stance="absent", flag=True, before=True, reader="a", at=at),
        said(1, verdict="changed my mind", reader="a", at=at),  # agrees in the end
        said(1, verdict="disagree", reader="b", at=at),
        said(2, stance="present", flag=False, reader="a", at=at),
        said(2, stance="unsure", flag=False, reader="b", at=at),  # says neither
        said(3, stance="present", flag=True, reader="a", at=at),
        replace(said(3, verdict="disagree", reader="c", at=at), version="0"),
    ]
    reads = [read(k, 0.9) for k in (1, 2, 3)]
    (one,) = monitor(CARD_HERE, known_films(), reads, opinions).whole.findings
    assert one.disagreed == wilson(2, 4)


def test_scores_that_drift_in_one_week_are_found_in_that_week():
    random = np.random.default_rng(2)
    usual = [read(k, float(s)) for k, s in enumerate(random.random(150))]
    high = [
        read(1000 + k, float(s), "2026-03-11T10:00:00.000+00:00")
        for k, s in enumerate(0.7 + 0.3 * random.random(150))
    ]
    report = monitor(CARD_HERE, known_films(), usual + high, [])
    first, second = (week.findings[0].scores for week in report.weeks)
    assert first.verdict == "steady"
    assert second.verdict == "drift"
    told = in_words(report)
    assert [line for line in told if "Week of 2026-03-09" in line and "drifted" in line]
    assert not [line for line in told if "Week of 2026-03-02" in line]


def test_inputs_are_held_against_the_first_films_of_the_site():
    random = np.random.default_rng(3)
    first = [read(k, 0.5, contrast=float(c)) for k, c in enumerate(random.random(FIRST_FILMS))]
    later = [
        read(1000 + k, 0.5, "2026-04-01T10:00:00.000+00:00", contrast=float(c))
        for k, c in enumerate(0.5 * random.random(300))
    ]
    (one,) = monitor(CARD_HERE, known_films(), first + later, []).inputs
    assert (one.what, one.reference, one.n, one.verdict) == ("contrast", 200, 300, "drift")
    (early,) = monitor(CARD_HERE, known_films(), first, []).inputs
    assert early.verdict == "too few" and early.n == 0


def test_inputs_are_held_against_the_models_own_films_where_these_are_known():
    """All films of the site count then, from the first on; what is not known keeps the old way."""
    random = np.random.default_rng(4)
    usual = Inputs(500, {"contrast": tuple(np.sort(random.random(500)))})
    alike = [read(k, 0.5, contrast=float(c)) for k, c in enumerate(random.random(300))]
    report = monitor(CARD_HERE, known_films(), alike, [], usual)
    (one,) = report.inputs
    assert (one.reference, one.n, one.verdict) == (500, 300, "steady")
    assert report.known == ("contrast",)
    assert any("500 validation films" in note for note in report.notes)
    assert not any("first 200" in note for note in report.notes)
    other = [read(k, 0.5, contrast=0.5 * float(c)) for k, c in enumerate(random.random(300))]
    assert monitor(CARD_HERE, known_films(), other, [], usual).inputs[0].verdict == "drift"
    elsewhere = monitor(CARD_HERE, known_films(), other, [], Inputs(500, {"sharpness": (1.0,)}))
    assert (elsewhere.inputs[0].reference, elsewhere.known) == (FIRST_FILMS, ())
    assert any("first 200 of this site" in note for note in elsewhere.notes)
    assert elsewhere.inputs == monitor(CARD_HERE, known_films(), other, []).inputs


def test_an_exclusive_model_flags_the_largest():
    names = ("A", "B")
    scores = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    card = replace(CARD, labels=names, activation="softmax", operating_points=(None, None),
                   cannot_tell=(None, (0.3, 0.5)))  # fmt: skip
    made = table_of(names, np.array([[1, 0], [0, 1], [1, 0]]), scores)
    a, b = monitor(card, made, [], []).tested
    assert (a.flagged, b.flagged) == (wilson(2, 3), wilson(1, 3))
    assert (a.undecided, b.undecided) == (wilson(0, 3), wilson(1, 3))


def test_nothing_read_is_a_sentence():
    report = monitor(CARD_HERE, known_films(), [], [])
    assert in_words(report) == ["Nothing was read with 'made' (version 1) yet."]
    assert report.to_json()["whole"]["refused"] is None


# --- the command ---


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Records]:
    """A model and records of this test's own."""
    write_bundle(tmp_path / "models", "made", known_films(), [0.5])
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    monkeypatch.setenv("CXR_RECORDS", url)
    return lambda: Records(url)


def test_the_command_prints_what_the_records_hold(site, capsys):
    version = load_card("made").version
    site().add(*(read(k, k / 20, version=version) for k in range(20)))
    assert main(["monitor", "--model", "made", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["whole"]["films"], len(told["weeks"])) == ("made", 20, 1)
    (one,) = told["whole"]["findings"]
    assert one["flagged"] == 0.5 and one["scores"]["verdict"] == "too few"
    assert main(["monitor", "--model", "made"]) == 0
    out = capsys.readouterr().out
    assert "20 films against 400 are too few" in out
    assert "Siddiqi" in out


def test_without_records_there_is_nothing_to_look_at(site, capsys, monkeypatch):
    monkeypatch.setenv("CXR_RECORDS", "off")
    assert main(["monitor", "--model", "made"]) == 2
    assert "CXR_RECORDS is off" in capsys.readouterr().err


# --- the view ---


def opened() -> AppTest:
    st.cache_data.clear()
    st.cache_resource.clear()
    page = AppTest.from_file(str(ROOT / "pages" / "evaluation.py"), default_timeout=60)
    page.session_state["view"] = "Monitoring"
    page.run()
    assert not page.exception and not page.error
    return page


def html(page: AppTest) -> str:
    return " ".join(unescape(part.body) for part in page.get("html"))


def test_the_view_shows_the_weeks_of_the_records(site):
    assert "Nothing was read" in html(opened())
    version = load_card("made").version
    site().add(*(read(k, 0.7 + k / 1000, version=version) for k in range(200)))
    told = html(opened())
    report = monitor(load_card("made"), known_films(), site().reads(), [])
    assert report.whole.findings[0].scores.verdict == "drift"
    assert "Scores: they have drifted" in told
    assert f"Week of {report.weeks[0].name}" in told
    assert f"{report.whole.findings[0].scores.psi:.2f}" in told
    assert "Contrast" in told and "Siddiqi" in told
    assert "first films here" in told and "validation films</td>" not in told


def test_the_view_and_the_command_use_what_the_bundle_knows(site, capsys):
    inputs = Inputs(300, {"contrast": tuple(np.linspace(0, 1, 300))})
    (models_root() / "made" / "inputs.json").write_text(json.dumps(inputs.to_json()))
    version = load_card("made").version
    site().add(*(read(k, 0.5, version=version, contrast=0.9) for k in range(300)))
    assert "validation films</td>" in html(opened())
    assert main(["monitor", "--model", "made", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["known"] == ["contrast"] and told["inputs"][0]["verdict"] == "drift"


def test_without_records_there_is_no_such_view(site, monkeypatch):
    monkeypatch.setenv("CXR_RECORDS", "off")
    assert "Monitoring" not in opened().segmented_control(key="view").options
