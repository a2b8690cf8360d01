"""Files of an evaluation: numbers worked by hand, and a report read back as text."""

import csv
import json
import re
from dataclasses import replace
from hashlib import sha256
from io import BytesIO, StringIO
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pypdf import PdfReader

from cxr_core.cards import list_models, load_history, load_predictions, model_folder
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.evaluation import EvaluationReport, evaluate, threshold_report
from cxr_core.export import evaluation_csv, evaluation_json, evaluation_pdf, figures_zip, paper
from cxr_core.export.document import predictions_digest
from cxr_core.export.pictures import file_name
from cxr_core.figures import PALETTES
from cxr_core.predictions import PredictionTable
from cxr_core.wording import NOTICE

# Ten films without the finding and ten with it: at 0.5 there are 2 false alarms and 1 miss.
ABSENT_SCORES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.6, 0.7]
PRESENT_SCORES = [0.3, 0.55, 0.65, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.99]
HISTORY = {"loss": [0.6, 0.4, 0.3], "validation_auroc": [0.90, 0.94, 0.96]}
HEADINGS = {
    "Not for",
    "Known limits",
    "How the films were kept apart",
    "Notes",
    "Averages",
    "Probabilities",
    "Numbers",
    "Notes on this label",
    "By view",
    "By sex",
    "By age",
    "Training",
}
HOSTILE = "<b>a</b> & <para> </font> &lt; \x00\ud800 ≥ 95 % – 50 µm $x$ $y"


def table_of(truth, scores, labels=("Pneumonia",), **known):
    """Films in pairs of one patient."""
    truth = np.array(truth).reshape(-1, len(labels))
    return PredictionTable(
        files=tuple(f"{film}.png" for film in range(len(truth))),
        patients=tuple(f"P{film // 2}" for film in range(len(truth))),
        labels=tuple(labels),
        y_true=truth,
        y_score=np.array(scores, dtype=float).reshape(truth.shape),
        split="test",
        **known,
    )


def report_of(table, points=(0.5,), exclusive=False, model="made"):
    return evaluate(
        table.y_true,
        table.y_score,
        table.labels,
        operating_points=points,
        model=model,
        patients=table.patients,
        exclusive=exclusive,
        rounds=20,
    )


def by_hand(**known):
    return table_of([0] * 10 + [1] * 10, ABSENT_SCORES + PRESENT_SCORES, **known)


def many_labels(count=15, films=60):
    """Labels whose films are ranked the better the later they come."""
    generator = np.random.default_rng(0)
    truth = (generator.random((films, count)) < 0.3).astype(int)
    scores = 1 / (1 + np.exp(-(truth * np.arange(count) / 4 + generator.normal(size=truth.shape))))
    return table_of(truth, scores, [f"Finding_{k:02d}" for k in range(count)])


def three_classes():
    truth = np.repeat(np.eye(3, dtype=int), 4, axis=0)
    scores = np.where(truth, 0.6, 0.2)
    scores[0] = (0.1, 0.8, 0.1)
    return table_of(truth, scores, ["Normal", "Bacterial pneumonia", "Viral pneumonia"])


def card_of(card, table, points=None):
    """Let a card answer the labels of a table."""
    labels = table.labels
    return replace(
        card,
        labels=labels,
        operating_points=points or (0.5,) * len(labels),
        cannot_tell=(None,) * len(labels),
    )


@pytest.fixture
def card(made_card):
    return replace(made_card, training={"epochs": 3, "seed": 0})


def read(document):
    return PdfReader(BytesIO(document))


def lines_of(document):
    """What is written on each page, line by line, without the foot."""
    pages = []
    for page in read(document).pages:
        lines = [line.strip() for line in page.extract_text().splitlines()]
        pages.append([line for line in lines if line and not _is_foot(line)])
    return pages


def _is_foot(line):
    return (NOTICE in line and "version" in line) or line.startswith(("page ", "SHA-256 of pred"))


def text_of(document):
    return "\n".join(line for page in lines_of(document) for line in page)


def words_of(document):
    """The whole text in one line, as it wraps differently on paper."""
    return re.sub(r"\s+", " ", text_of(document))


def printed(value):
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"


def numbers_of(value):
    """Every number anywhere in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in numbers_of(entry)]
    return [] if value is None or isinstance(value, str) else [value]


# --- the report to print: its numbers ---


def test_rates_worked_by_hand_stand_beside_their_names(card):
    table = by_hand()
    words = words_of(evaluation_pdf(card, report_of(table), table, HISTORY))

    # Wilson: (9/10 + z²/20 ± z √(0.09/10 + z²/400)) / (1 + z²/10) with z = 1.96.
    assert "Sensitivity 0.900 0.596–0.982 of films with it, flagged" in words
    assert "Specificity 0.800 0.490–0.943 of films without it, not flagged" in words
    assert "Flagged, without it 2 false positives" in words
    assert "Not flagged, with it 1 false negatives" in words
    assert "Operating point 0.500 probability from which a film is flagged" in words
    assert "Test split: 20 films of 10 patients" in words
    assert "Of 10 films with Pneumonia, 9 were flagged (90.0 %, 59.6-98.2)." in words


def test_every_number_of_the_label_is_printed(card):
    table = by_hand()
    report = report_of(table)
    text = text_of(evaluation_pdf(card, report, table, HISTORY))
    written = set(re.findall(r"(?<![\d.])\d+(?:\.\d+)?(?![\d.])", text))

    missing = {printed(n) for n in numbers_of(report.to_json()["labels"]["Pneumonia"])} - written
    assert not missing


@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_every_number_of_any_films_is_printed(data):
    films = data.draw(st.integers(4, 30))
    truth = data.draw(st.lists(st.integers(0, 1), min_size=films, max_size=films))
    share = st.floats(0, 1, allow_subnormal=False)
    scores = data.draw(st.lists(share, min_size=films, max_size=films))
    table, point = table_of(truth, scores), data.draw(st.none() | share)
    report = report_of(table, [point])
    made = next(card for card in list_models() if card.name == "pediatric-pneumonia")
    text = text_of(evaluation_pdf(card_of(made, table, (point,)), report, table, None))

    assert {printed(n) for n in numbers_of(report.to_json()["labels"]["Pneumonia"])} <= set(
        re.findall(r"(?<![\d.])-?\d+(?:\.\d+)?(?![\d.])", text)
    )


def test_what_cannot_be_known_is_said_with_its_reason(card):
    table = table_of([0] * 6, [0.1, 0.2, 0.3, 0.4, 0.6, 0.7])
    report = report_of(table)
    words = words_of(evaluation_pdf(card, report, table, HISTORY))

    assert "AUROC not known" in words
    assert "Sensitivity not known" in words
    assert report.labels[0].notes
    assert all(note in words for note in report.labels[0].notes)


def test_a_label_without_operating_point_has_no_matrix_and_says_so(card):
    table = by_hand()
    made = evaluation_pdf(card_of(card, table, (None,)), report_of(table, [None]), table, HISTORY)
    words = words_of(made)

    assert "Nothing is decided: there is no matrix." in words
    assert "Pneumonia has no operating point" in words
    assert "Operating point none" in words
    assert "false positives" not in words
    assert sum(len(page.images) for page in read(made).pages) == 5  # scores, curves, training


def test_a_readers_threshold_is_printed_apart_and_called_exploration(card):
    table = by_hand()
    at = threshold_report(table.y_true[:, 0], table.y_score[:, 0], 0.65)
    report = report_of(table)
    words = words_of(evaluation_pdf(card, report, table, HISTORY, label="Pneumonia", at=at))
    before, after = words.split("Another threshold: 0.650")

    # At 0.65, one absent film (0.7) is flagged; 0.3 and 0.55 are missed, 0.65 is not.
    assert "Specificity 0.800" in before
    assert "Specificity 0.900" in after
    assert "Sensitivity 0.800" in after
    assert "chosen on these test films, so its numbers are for exploration only" in after
    assert "The operating point of record stays 0.500." in after


# --- the report to print: its parts ---


def test_a_card_stands_on_the_first_page(card):
    table = by_hand()
    apart = ["No patient of the test films was trained on.", "No film is in two splits."]
    made = evaluation_pdf(card, report_of(table), table, HISTORY, integrity=apart)
    first = re.sub(r"\s+", " ", " ".join(lines_of(made)[0]))

    for words in (card.name, card.version, card.created, card.intended_use, card.operating_rule):
        assert words in first
    for words in (NOTICE, *card.not_for, *card.limits, *apart, *report_of(table).notes):
        assert words in first


def test_every_page_says_whose_it_is_and_what_recomputes_it(card):
    table = by_hand()
    pages = read(evaluation_pdf(card, report_of(table), table, HISTORY)).pages

    for number, page in enumerate(pages, 1):
        text = page.extract_text()
        assert f"{card.name} · version {card.version}" in text
        assert f"page {number} of {len(pages)}" in text
        assert predictions_digest(table) in text


@pytest.mark.parametrize("name", ["pediatric-pneumonia", "pediatric-type"])
def test_the_digest_is_that_of_the_file_beside_the_model(name):
    path = model_folder(name) / "predictions.csv"

    assert predictions_digest(load_predictions(name)) == sha256(path.read_bytes()).hexdigest()


def test_the_document_names_itself(card):
    table = by_hand()
    document = read(evaluation_pdf(card, report_of(table), table, HISTORY))

    assert document.metadata.title == f"Evaluation of {card.name}, version {card.version}"
    assert document.metadata.author == "cxr_core"
    assert document.trailer["/Root"]["/Lang"] == "en-GB"
    assert [entry.title for entry in document.outline if not isinstance(entry, list)] == [
        card.name,
        "Pneumonia",
        "Training",
    ]


def test_letters_travel_inside_the_file(card):
    table = by_hand()
    for page in read(evaluation_pdf(card, report_of(table), table, HISTORY)).pages:
        fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
        used = [font for font in fonts if font["/BaseFont"] != "/Helvetica"]
        assert used
        assert all("/FontFile2" in font["/FontDescriptor"] for font in used)


def test_answers_of_which_one_is_right_get_their_own_matrix(card):
    table = three_classes()
    points = (None,) * 3
    report = report_of(table, points, exclusive=True)
    made = evaluation_pdf(card_of(card, table, points), report, table, HISTORY)
    words = words_of(made)

    # 11 of 12: Wilson gives 0.646 to 0.985.
    assert (
        "The largest probability was right for 11 of 12 films (accuracy 0.917, 0.646–0.985)."
        in words
    )
    for label in table.labels:
        assert f"Called {label}: " in words
    # Five figures for each label, the 3 x 3 and the training.
    assert sum(len(page.images) for page in read(made).pages) == 17


def test_of_many_labels_one_is_shown_and_all_are_listed(card):
    table = many_labels()
    report = report_of(table, (0.5,) * 15)
    made = evaluation_pdf(card_of(card, table), report, table, HISTORY, label="Finding_07")
    ranked = sorted(report.labels, key=lambda one: -one.auroc.value)
    (overview,) = [page for page in lines_of(made) if "All answers" in page]
    listed = [line for line in overview if line.startswith("Finding ")]

    assert listed == [one.label.replace("_", " ") for one in ranked]
    for one in report.labels:
        for share in (one.auroc, one.auprc, one.sensitivity, one.specificity, one.ppv, one.npv):
            assert f"{share.value:.3f}" in overview
            assert f"{share.low:.3f}–{share.high:.3f}" in overview
    assert sum(len(page.images) for page in read(made).pages) == 6
    assert f"{report.macro_auroc:.3f}" in overview


def test_many_labels_and_none_chosen_leave_the_table(card):
    table = many_labels()
    made = evaluation_pdf(card_of(card, table), report_of(table, (0.5,) * 15), table, None)

    assert "Probabilities" not in text_of(made)
    assert len(read(made).pages) <= 3


def test_a_label_that_cannot_be_ranked_comes_last(card):
    table = table_of([[1, 0], [1, 1], [1, 0], [1, 1]], [[0.9, 0.2]] * 4, ["Always", "Sometimes"])
    report = report_of(table, (0.5, 0.5))
    made = evaluation_pdf(card_of(card, table), report, table, None)
    (overview,) = [page for page in lines_of(made) if "All answers" in page]

    assert overview.index("Sometimes") < overview.index("Always")


def test_groups_of_films_are_told_apart_where_the_table_knows_them(card):
    table = by_hand(sex=("F", "M") * 10, view=("PA",) * 19 + ("AP",), age=(30.0,) * 20)
    text = text_of(evaluation_pdf(card, report_of(table), table, None))
    words = re.sub(r"\s+", " ", text)

    assert "By sex" in text
    assert "By view" in text
    assert "By age" not in text, "one group is told apart from none"
    # Of the odd films, 0.3 is missed and 0.6 flagged: 4 of 5 each way.
    assert re.search(r"F 10 5 0\.800 0\.\d{3}–0\.\d{3} 0\.800", words)
    few = "read the interval, not the number."
    assert f"F: Only 10 films, 5 of them with Pneumonia: {few}" in words
    assert f"AP: Only one film: {few}" in words


def test_groups_that_are_large_enough_bear_no_note(card):
    table = table_of([0] * 40 + [1] * 40, [0.2] * 40 + [0.8] * 40, sex=("F", "M") * 40)
    for points in ((0.5,), (None,)):
        document = evaluation_pdf(card, report_of(table, points), table, None)
        words = re.sub(r"\s+", " ", text_of(document))
        assert "By sex" in words
        assert not re.search(r"\b[FM]: ", words)


@pytest.mark.parametrize("history", [None, {}, {"learning_rate": [1e-3]}])
def test_a_training_that_nobody_recorded_is_said_so(card, history):
    table = by_hand()
    words = words_of(evaluation_pdf(card, report_of(table), table, history))

    assert "No training curves are recorded." in words
    assert "Epochs 3" in words


def test_a_shipped_model_fills_two_to_four_pages_and_leaves_no_heading_alone():
    (card,) = [card for card in list_models() if card.name == "pediatric-pneumonia"]
    table = load_predictions(card.name)
    report = report_of(table, card.operating_points, model=card.name)
    pages = lines_of(evaluation_pdf(card, report, table, load_history(card.name)))

    assert 2 <= len(pages) <= 4
    assert not {page[-1] for page in pages} & HEADINGS


# --- the report to print: as a file ---


def test_the_same_values_make_the_same_bytes(card):
    table, other = by_hand(), table_of([0, 1], [0.2, 0.8], ["Épanchement"])
    first = evaluation_pdf(card, report_of(table), table, HISTORY)
    evaluation_pdf(card_of(card, other), report_of(other), other, None)

    assert evaluation_pdf(card, report_of(table), table, HISTORY) == first


def test_odd_words_stay_words(card):
    table = table_of([0] * 10 + [1] * 10, ABSENT_SCORES + PRESENT_SCORES, ["<i>P</i> & $x$ $\\q$"])
    odd = replace(
        card_of(card, table),
        intended_use=HOSTILE,
        limits=(HOSTILE, "x" * 2000, "word " * 2000),
        not_for=(),
        training={"note": "y" * 9000, "<b>": HOSTILE, "nested": {"a": 1}, "on": True},
        version="9" * 500,
    )
    words = words_of(evaluation_pdf(odd, report_of(table), table, HISTORY))

    assert "<b>a</b> & <para> </font> &lt; ≥ 95 % – 50 µm $x$ $y" in words
    assert "Of 10 films with <i>P</i> & $x$ $\\q$, 9 were flagged" in words
    assert words.replace(" ", "").count("x" * 100) >= 15
    assert words.count("word") == 2000


def test_nothing_is_written_beyond_the_margins(card):
    table = by_hand(sex=("F", "M") * 10)
    long = replace(card, version="9" * 500, data="https://example.org/" + "a" * 400)
    starts = []

    def note(text, current, matrix, font, size):
        if text.strip():
            starts.append(current[4] + matrix[4])

    for page in read(evaluation_pdf(long, report_of(table), table, HISTORY)).pages:
        page.extract_text(visitor_text=note)
    assert starts
    assert min(starts) >= paper.MARGIN - 1
    assert max(starts) <= paper.MARGIN + paper.WIDTH


@settings(max_examples=60, deadline=None)
@given(words=st.text(max_size=300), name=st.text(max_size=40))
def test_no_text_stops_the_press(words, name):
    def story():
        rows = [(paper.paragraph(name, "muted"), paper.paragraph(words, "cell"))]
        return [
            paper.paragraph(name, "title"),
            paper.paragraph(words, "heading"),
            *paper.sentences([words, name]),
            paper.table((name, words), rows, (0.2, 0.8)),
        ]

    made = paper.print_pages(story, title=words, subject=name, foot=(words, name))

    assert read(made).pages


# --- what does not belong together ---


def test_a_report_of_another_model_is_refused(card):
    table = by_hand()
    with pytest.raises(ArgumentError, match="made, which answers Pneumonia, but it is of Mass"):
        other = by_hand()
        mass = replace(report_of(other).labels[0], label="Mass")
        evaluation_pdf(card, replace(report_of(table), labels=(mass,)), table, None)


@pytest.mark.parametrize("make", ["pdf", "zip"])
def test_predictions_of_other_films_are_refused(card, make):
    table, other = by_hand(), table_of([0, 1, 1], [0.2, 0.6, 0.8])
    report = report_of(table)
    with pytest.raises(ArgumentError, match="10 of 20 films and they hold Pneumonia on 2 of 3"):
        if make == "pdf":
            evaluation_pdf(card, report, other, None)
        else:
            figures_zip(report, other, None, label="Pneumonia")


def test_a_label_that_nobody_answers_is_refused(card):
    table = by_hand()
    with pytest.raises(UnknownName, match="no label named 'Mass'"):
        evaluation_pdf(card, report_of(table), table, None, label="Mass")
    with pytest.raises(UnknownName, match="no label named 'Mass'"):
        figures_zip(report_of(table), table, None, label="Mass")


def test_a_threshold_needs_its_label_and_its_films(card):
    table = by_hand()
    at = threshold_report(table.y_true[:, 0], table.y_score[:, 0], 0.65)
    with pytest.raises(ArgumentError, match="A threshold belongs to one label"):
        evaluation_pdf(card, report_of(table), table, None, at=at)
    other = threshold_report([0, 1], [0.2, 0.8], 0.65)
    with pytest.raises(ArgumentError, match="the 20 films of the report, 10 with Pneumonia"):
        evaluation_pdf(card, report_of(table), table, None, label="Pneumonia", at=other)


# --- numbers for spreadsheets and scripts ---


def rows_of(report):
    rows = list(csv.DictReader(StringIO(evaluation_csv(report).decode())))
    assert len({(row["label"], row["number"]) for row in rows}) == len(rows)
    return {(row["label"], row["number"]): row for row in rows}


def test_a_spreadsheet_holds_what_was_worked_by_hand():
    rows = rows_of(report_of(by_hand()))

    assert float(rows["Pneumonia", "sensitivity"]["value"]) == 0.9
    assert float(rows["Pneumonia", "sensitivity"]["low"]) == pytest.approx(0.5958, abs=1e-4)
    assert float(rows["Pneumonia", "sensitivity"]["high"]) == pytest.approx(0.9821, abs=1e-4)
    counts = {"true_negatives": 8, "false_positives": 2, "false_negatives": 1, "true_positives": 9}
    for name, count in counts.items():
        assert rows["Pneumonia", name]["value"] == str(count)
    assert rows["Pneumonia", "brier"]["low"] == ""
    assert rows["all labels", "n"]["value"] == "20"


def test_a_spreadsheet_holds_averages_and_the_accuracy_of_exclusive_answers():
    report = report_of(three_classes(), (None,) * 3, exclusive=True)
    rows = rows_of(report)

    assert float(rows["macro average", "auroc"]["value"]) == report.macro_auroc
    assert float(rows["all labels", "accuracy"]["value"]) == pytest.approx(11 / 12)
    assert rows["Normal", "operating_point"]["value"] == ""
    for kind in ("macro", "micro"):
        for name, value in report.to_json().get(kind, {}).items():
            assert rows[f"{kind} average", name]["value"] == ("" if value is None else str(value))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_spreadsheet_holds_every_number_of_a_label_with_all_its_digits(data):
    films = data.draw(st.integers(1, 12))
    truth = data.draw(st.lists(st.integers(0, 1), min_size=films, max_size=films))
    scores = data.draw(st.lists(st.floats(0, 1), min_size=films, max_size=films))
    point = data.draw(st.none() | st.floats(0, 1))
    label = data.draw(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1))
    report = report_of(table_of(truth, scores, [label]), [point])
    rows, values = rows_of(report), report.to_json()["labels"][label]

    for name, value in values.items():
        if isinstance(value, float | int):
            row = rows[label, name]
            assert float(row["value"]) == value
            bounds = values.get(f"{name}_ci")
            assert (row["low"], row["high"]) == (tuple(map(str, bounds)) if bounds else ("", ""))


def test_json_is_what_the_command_line_prints_and_reads_back():
    report = report_of(table_of([0, 1, 1], [0.2, 0.6, 0.8], ["Épanchement"]))
    made = evaluation_json(report)

    assert made.isascii()
    assert list(json.loads(made)) == list(report.to_json())
    assert json.loads(made) == report.to_json()
    assert EvaluationReport.from_json(json.loads(made)) == report


# --- pictures ---


def unpacked(packed):
    with ZipFile(BytesIO(packed)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_figure_of_a_label_is_packed_in_its_theme(theme):
    table = by_hand()
    pictures = unpacked(
        figures_zip(report_of(table), table, HISTORY, label="Pneumonia", theme=theme)
    )

    kinds = ("confusion", "scores", "roc", "precision-recall", "calibration", "history")
    assert list(pictures) == [f"made-Pneumonia-{kind}.png" for kind in kinds]
    for picture in pictures.values():
        corner = Image.open(BytesIO(picture)).convert("RGB").getpixel((2, 2))
        assert "#{:02x}{:02x}{:02x}".format(*corner) == PALETTES[theme].ground


def test_exclusive_answers_come_with_their_matrix_and_nothing_else_is_made_up():
    table = three_classes()
    report = report_of(table, (None,) * 3, exclusive=True)
    names = unpacked(figures_zip(report, table, None, label="Viral pneumonia"))

    assert "made-Viral_pneumonia-matrix.png" in names
    assert "made-Viral_pneumonia-history.png" not in names


def test_a_label_without_decisions_has_no_matrix_to_pack():
    table = by_hand()
    names = unpacked(figures_zip(report_of(table, [None]), table, None, label="Pneumonia"))

    assert "made-Pneumonia-roc.png" in names
    assert "made-Pneumonia-confusion.png" not in names


def test_a_readers_threshold_is_marked_where_it_matters():
    table = by_hand()
    at = threshold_report(table.y_true[:, 0], table.y_score[:, 0], 0.65)
    plain, marked = (
        unpacked(figures_zip(report_of(table), table, HISTORY, label="Pneumonia", at=one))
        for one in (None, at)
    )
    changed = {name.split("-", 2)[2] for name in plain if plain[name] != marked[name]}

    assert changed == {"confusion.png", "scores.png", "roc.png", "precision-recall.png"}


def test_the_same_figures_make_the_same_archive():
    table = by_hand()
    first = figures_zip(report_of(table), table, HISTORY, label="Pneumonia")

    assert figures_zip(report_of(table), table, HISTORY, label="Pneumonia") == first
    with ZipFile(BytesIO(first)) as archive:  # no file says when it was made
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@given(st.text())
def test_no_name_leaves_the_folder_it_is_unpacked_into(words):
    name = file_name(words)

    assert name
    assert not set(name) & set('/\\:*?"<>|.\0\n ')
