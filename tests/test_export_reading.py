"""One reading on paper and as rows: one page whatever it holds, the same for the same reading."""

import csv
import re
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO, StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from readings import AT, finding, made_card, record, refused, shown

from cxr_core import overlays
from cxr_core.cards import list_models
from cxr_core.errors import ArgumentError
from cxr_core.export import reading_csv, reading_pdf
from cxr_core.export.reading_table import COLUMNS
from cxr_core.export.terms import PRIVATE, SNOMED, one_line, term_of
from cxr_core.preprocess import restore
from cxr_core.wording import NOTICE

HOSTILE = "<b>a</b> & <para> </font> &lt; \x00\ud800 ≥ 95 % $x$"


def words_of(document: bytes) -> str:
    """The text of the only page, in one line."""
    (page,) = PdfReader(BytesIO(document)).pages
    return re.sub(r"\s+", " ", page.extract_text())


def rows_of(made: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(made.decode())))


# --- the value ---


@pytest.mark.parametrize(
    ("said", "decision"),
    [
        (finding("Pneumonia", 0.9, 0.4), "flag"),
        (finding("Pneumonia", 0.3, 0.4), "no flag"),
        (finding("Pneumonia", 0.9, 0.4, band=(0.2, 0.95)), "flag"),
        (finding("Pneumonia", 0.3, 0.4, band=(0.2, 0.95)), "no flag"),
        (finding("Pneumonia", 0.9, None), "undecided"),
        (finding("Pneumonia", 0.9, None, flag=True, exclusive=True), "flag"),
        (finding("Pneumonia", 0.1, None, exclusive=True), "no flag"),
    ],
    ids=["flag", "no flag", "unsure flag", "unsure", "no point", "largest", "not largest"],
)
def test_what_was_decided(said, decision):
    assert said.decision == decision


def test_a_reading_must_hold_together():
    with pytest.raises(ArgumentError, match="time zone"):
        record(at=datetime(2026, 1, 1))
    with pytest.raises(ArgumentError, match=r"made has findings for Mass"):
        record(card=made_card(["Mass"], [0.5]))
    with pytest.raises(ArgumentError, match="'Mass'"):
        record(shown=shown("Mass"))


def test_a_reading_has_an_identity_of_its_own():
    """Whatever a file would say otherwise must not go by the same name."""
    made = record()
    others = [
        record(at=AT + timedelta(seconds=1)),
        record(mended=("Mirrored.",)),
        record(opinions=("agree",)),
        record(shown=shown()),
        record(shown=replace(shown(), found=replace(shown().found, absence=True))),
        record(film=replace(made.film, digest="1" * 64)),
        record(card=replace(made.card, version="2")),
        # The map may be withheld, or checked, only after a first file was saved.
        record(not_shown="Map withheld."),
        record(shown=replace(shown(), caption="Contradicted.")),
        record(facts="12 years old"),
        record(headline="No flag", detail=("Caution.",)),
    ]

    assert made.uuid("one") == record().uuid("one") != made.uuid("another")
    assert len({one.uuid("one") for one in (made, *others)}) == len(others) + 1


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_is_drawn_as_on_the_screen(signed):
    film = record().film.pixels
    grey = overlays.to_grey(film)
    one = shown(signed=signed)
    laid = restore(one.found.values, one.placement)

    drawn = one.over(grey)

    expected = overlays.overlay(film, laid, signed=signed, style="both")
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(drawn[200:, 180:], np.repeat(grey[200:, 180:, None], 3, axis=2))


# --- codes ---


def test_findings_have_codes_that_others_know():
    assert (term_of("Pneumonia").value, term_of("Pneumonia").scheme) == ("233604007", SNOMED)
    assert term_of("Pneumothorax").value == "36118008"
    assert term_of("COVID-19").value == "840539006"
    assert term_of("viral_pneumonia") == term_of("Viral pneumonia")


def test_codes_agree_with_the_standard():
    """Where DICOM itself lists the finding, its code is the one used here."""
    from pydicom.sr.codedict import codes

    listed = {
        "Pneumothorax": codes.SCT.Pneumothorax,
        "Effusion": codes.SCT.PleuralEffusion,
        "Edema": codes.SCT.PulmonaryEdema,
        "Normal": codes.SCT.ImagingResultNormal,
        "Abnormal": codes.SCT.ImagingResultAbnormal,
    }
    for label, code in listed.items():
        assert term_of(label).value == code.value


def test_every_label_of_the_shipped_models_has_one_code():
    labels = {label for card in list_models() for label in card.labels}
    private = {label for label in labels if term_of(label).scheme == PRIVATE}

    assert private <= {"Hernia", "No Finding", "Pleural_Thickening"}
    assert len({term_of(label).value for label in labels}) == len(labels)
    for label in labels:
        check_digit(term_of(label).value) if label not in private else None


def check_digit(code: str) -> None:
    """A SNOMED CT identifier ends in a check digit (Verhoeff): a mistyped one would fail."""
    dihedral = [
        [(a + b) % 5 if a < 5 else 5 + (a + (-b)) % 5 for b in range(5)]
        + [5 + (a + b) % 5 if a < 5 else (a - b) % 5 for b in range(5)]
        for a in range(10)
    ]
    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for position, digit in enumerate(map(int, reversed(code))):
        for _ in range(position % 8):
            digit = turn[digit]
        check = dihedral[check][digit]
    assert check == 0, f"{code} is no SNOMED CT identifier"


@given(st.text(min_size=1, max_size=200))
@settings(deadline=None)
def test_any_label_becomes_a_code(label):
    term = term_of(label)

    assert 1 <= len(term.value) <= 64
    assert 1 <= len(term.meaning) <= 64
    for words in (term.value, term.meaning):
        assert words.isprintable()
        assert "\\" not in words
        assert words == words.strip()


def test_one_line_keeps_what_an_element_can_hold():
    assert one_line(" a\\b\nc ", 64) == "a b c"
    assert one_line("abc def", 4) == "abc"


# --- paper ---


def test_the_page_says_what_the_reader_saw():
    made = record(
        finding("Pneumonia", 0.9, 0.4, band=(0.2, 0.45)),
        finding("Pleural_Thickening", 0.1, 0.3),
        shown=shown(),
        opinions=("2026-11-21 22:01 UTC, pneumonia: agree",),
        mended=("Mirrored by the reader; the file itself is as it was.",),
    )

    words = words_of(reading_pdf(made))

    assert words.count(NOTICE) == 2  # once under the answer, once in the foot
    for said in (
        made.headline,
        "read on 2026-11-21 at 22:00 UTC",
        "Mirrored by the reader",
        "Grad-CAM, for it.",
        "Where it lies.",
        # Of ten with it nine are flagged (0.596-0.982), of ten without eight are not.
        "Pneumonia 0.90 0.40 0.20–0.45 Flag 0.90 (0.60–0.98) 0.80 (0.49–0.94) 10",
        "Pleural thickening 0.10 0.30 No flag",
        "20 test films",
        "It was made by hand.",
        "The view is not stated.",
        "pneumonia: agree",
        "made · version 2026-01-01-made",
        f"SHA-256 of the film's file: {made.film.digest}",
    ):
        assert said in words, said


def test_what_has_no_operating_point_is_not_called_absent():
    words = words_of(reading_pdf(record(finding("Mass", 0.1, None))))

    assert "Mass 0.10 none Undecided not known not known 10" in words


def test_a_flag_that_is_unsure_stays_a_flag():
    unsure = finding("COVID-19", 0.5, 0.4, band=(0.3, 0.6))

    words = words_of(reading_pdf(record(unsure)))

    assert "COVID-19 0.50 0.40 0.30–0.60 Flag, cannot tell" in words
    below = words_of(reading_pdf(record(finding("COVID-19", 0.35, 0.4, band=(0.3, 0.6)))))
    assert "COVID-19 0.35 0.40 0.30–0.60 No flag, cannot tell" in below
    assert "Flag, cannot tell" not in words_of(reading_pdf(record()))
    (row,) = rows_of(reading_csv(record(unsure)))
    assert (row["flag"], row["cannot_tell"], row["decision"]) == ("True", "True", "flag")


def test_of_exclusive_answers_the_largest_is_named():
    findings = (
        finding("Normal", 0.7, None, flag=True, exclusive=True),
        finding("Viral pneumonia", 0.3, None, exclusive=True),
    )
    words = words_of(reading_pdf(record(*findings, exclusive=True)))

    assert "Normal 0.70 none Largest" in words
    assert "Viral pneumonia 0.30 none Not largest" in words


def test_without_a_map_there_is_the_film_and_the_reason():
    plain = record(not_shown="No explanation: it was not flagged.")

    pages = [
        PdfReader(BytesIO(reading_pdf(one))).pages[0] for one in (plain, record(shown=shown()))
    ]

    assert [len(page.images) for page in pages] == [1, 3]  # the map and its bar of colours
    assert "No explanation: it was not flagged." in pages[0].extract_text().replace("\n", " ")


def test_a_refused_film_has_its_page_too():
    words = words_of(reading_pdf(refused()))

    assert "No answer: it is a film of a hand." in words
    assert "Sensitivity" not in words


def test_the_same_reading_makes_the_same_page():
    assert reading_pdf(record(shown=shown())) == reading_pdf(record(shown=shown()))
    assert b"D:20000101" in reading_pdf(record())  # the date of a document without one


def crowded(words: str, labels: int):
    """A reading with much to say of everything."""
    names = [f"{words[:60]} {k}" for k in range(labels)]
    made = record(*(finding(name, 0.5, 0.4) for name in names))
    card = replace(
        made.card,
        intended_use=words,
        not_for=(words,) * 4,
        limits=(words,) * 8,
        operating_rule=words,
    )
    return replace(
        made,
        card=card,
        headline=words,
        detail=(words,) * 4,
        opinions=(words,) * 6,
        shown=replace(shown(names[0]), caption=words),
        facts=words,
    )


@pytest.mark.parametrize("labels", [1, 15, 30])
def test_whatever_it_holds_it_is_one_page(labels):
    for words in (HOSTILE, "word " * 120, "W" * 400):
        document = PdfReader(BytesIO(reading_pdf(crowded(words, labels))))
        assert len(document.pages) == 1


def test_what_fits_is_not_set_smaller():
    """Fifteen findings with the words of a real card leave room for pictures of 4 cm."""
    from cxr_core.export import paper, reading_page

    models = {card.name: card for card in list_models()}
    card = models["adult-findings"]
    findings = [finding(label, 0.5, 0.4, band=(0.1, 0.3)) for label in card.labels]
    made = replace(record(*findings), card=card, shown=shown("Mass"), detail=("Word " * 30,) * 2)

    room = paper.room_left([*reading_page._above(made), *reading_page._below(made)])

    assert room >= reading_page.LOWEST


# --- rows ---


def test_a_row_for_each_label_with_all_digits():
    made = record(
        finding("Pneumonia", 0.912345678, 0.4, band=(0.2, 0.45)), finding("Mass", 0.1, None)
    )

    first, second = rows_of(reading_csv(made))

    assert tuple(first) == COLUMNS
    assert first["film_sha256"] == made.film.digest
    assert first["read_at"] == "2026-11-21T22:00:05+00:00"
    assert first["gate"] == "caution"
    assert (first["label"], first["probability"]) == ("Pneumonia", "0.912345678")
    assert (first["operating_point"], first["flag"]) == ("0.4", "True")
    assert (first["cannot_tell"], first["decision"]) == ("False", "flag")
    assert (first["cannot_tell_from"], first["cannot_tell_to"]) == ("0.2", "0.45")
    assert (first["test_films"], first["test_films_with_it"]) == ("20", "10")
    assert (first["sensitivity"], first["specificity"]) == ("0.9", "0.8")
    # Wilson's interval of 9 in 10.
    assert float(first["sensitivity_low"]) == pytest.approx(0.5958, abs=5e-5)
    assert float(first["sensitivity_high"]) == pytest.approx(0.9821, abs=5e-5)
    assert (second["operating_point"], second["sensitivity"]) == ("", "")
    assert second["decision"] == "undecided"


def test_a_refused_film_is_one_row_with_the_reason():
    (row,) = rows_of(reading_csv(refused()))

    assert (row["label"], row["probability"], row["gate"]) == ("", "", "refuse")
    assert row["headline"] == "No answer: it is a film of a hand."


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r@"])
def test_no_cell_is_a_formula(start):
    (row,) = rows_of(reading_csv(record(finding(f"{start}SUM(A1)", 0.5, 0.4))))

    assert row["label"] == f"'{start}SUM(A1)".replace("\t", " ").replace("\r", " ")


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_words_stay_in_their_cell(words):
    (row,) = rows_of(reading_csv(replace(refused(), headline=words)))

    kept = "".join(letter if letter.isprintable() else " " for letter in words)
    assert row["headline"].removeprefix("'") == kept.removeprefix("'")
