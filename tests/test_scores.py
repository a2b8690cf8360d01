"""Another system's two files become a table, and what could not be used is said."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from cxr_core.commands.predict import write_table
from cxr_core.datasets import NIH_FINDINGS
from cxr_core.errors import ArgumentError, DataError
from cxr_core.predictions import PredictionTable, read_predictions, write_predictions
from cxr_core.scores import OutsideScores, evaluate_scores, read_score_files, read_scores

ROOT = Path(__file__).resolve().parents[1]

LABELS = """image,Effusion,Mass
a.png,1,0
b.png,0,1
c.png,1,0
d.png,0,0
"""
SCORES = """image,prob_Effusion,prob_Mass
a.png,0.9,0.1
b.png,0.2,0.8
c.png,0.4,0.3
d.png,0.3,0.6
"""
EFFUSION = "image,Effusion\na.png,1\nb.png,0\nc.png,1\nd.png,0\n"
EFFUSION_SCORES = "image,Effusion\na.png,0.9\nb.png,0.2\nc.png,0.4\nd.png,0.3\n"
NO_PATIENTS = "'L.csv' does not name patients"

NIH = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,\
View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,
00000001_001.png,No Finding,1,1,058Y,M,AP,2894,2729,0.143,0.143,
00000002_000.png,Infiltration,0,2,009M,F,PA,2500,2048,0.168,0.168,
00000003_000.png,Pleural_Thickening,0,3,411Y,F,PA,2582,2991,0.143,0.143,
"""


def read(predictions: str, labels: str = LABELS) -> OutsideScores:
    return read_scores(predictions.encode(), labels.encode())


def noted(scores: OutsideScores) -> list[str]:
    """What was noted, but that the labels name no patients."""
    return [note for note in scores.notes if NO_PATIENTS not in note]


def selected(left: int, films: int) -> str:
    return (
        f"What is left, {left} of {films} films, is a selected sample: its numbers need not hold "
        "for all of them."
    )


def costly(*columns: str) -> str:
    return f"Cells that are blank or cannot be read cost most films in {', '.join(columns)}."


def told(predictions: str, labels: str = LABELS) -> str:
    with pytest.raises(DataError) as caught:
        read(predictions, labels)
    return str(caught.value)


# --- what is read ---


def test_scores_and_labels_become_a_table():
    scores = read(SCORES)
    assert scores.table.files == ("a.png", "b.png", "c.png", "d.png")
    assert scores.table.labels == ("Effusion", "Mass")
    assert scores.table.split == "outside"
    assert scores.table.y_true.tolist() == [[1, 0], [0, 1], [1, 0], [0, 0]]
    assert scores.table.y_score.tolist() == [[0.9, 0.1], [0.2, 0.8], [0.4, 0.3], [0.3, 0.6]]
    assert scores.table.patients == scores.table.files
    assert (scores.table.age, scores.table.sex, scores.table.view) == (None, None, None)
    assert scores.operating_points == (None, None)
    assert noted(scores) == [] and len(scores.notes) == 1


@pytest.mark.parametrize(
    "title",
    [
        *(
            "Pleural_Thickening",
            "pleural thickening",
            "PLEURAL-THICKENING",
            "prob_Pleural_Thickening",
        ),
        *("score_pleural-thickening", "Pred Pleural Thickening", "p_Pleural_Thickening"),
        *("probability_Pleural_Thickening", "Pleural_Thickening_prob", "pleural thickening score"),
    ],
)
def test_a_label_may_be_written_in_many_ways(title):
    scores = read(
        f"image,{title}\na.png,0.9\nb.png,0.2\n", "image,Pleural_Thickening\na.png,1\nb.png,0\n"
    )
    assert scores.table.labels == ("Pleural_Thickening",)
    assert scores.table.y_score.tolist() == [[0.9], [0.2]]
    assert noted(scores) == []


@pytest.mark.parametrize("prefix", ["", "true_", "label_", "gt_", "True ", "GT-"])
@pytest.mark.parametrize("words", ["0 1", "0.0 1.0", "false true", "No Yes", "FALSE TRUE"])
def test_truth_may_be_written_in_many_ways(prefix, words):
    no, yes = words.split()
    scores = read(EFFUSION_SCORES, f"image,{prefix}Effusion\na.png,{yes}\nb.png,{no}\n")
    assert scores.table.labels == ("Effusion",)
    assert scores.table.y_true.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    "title",
    ["image", "File", "filename", "Image Index", "image_id", "Path", "name", "ID", "study_id", "x"],
)
def test_the_films_are_named_in_a_column_found_by_its_title_or_its_text(title):
    predictions = f"Effusion,{title}\n0.9,a.png\n0.2,b.png\n"
    assert read(predictions).table.files == ("a.png", "b.png")


def test_films_may_be_numbered_where_the_title_says_that_it_is_films():
    scores = read("score_Effusion,image\n0.9,7\n0.2,8\n", "image,Effusion\n8,0\n7,1\n")
    assert scores.table.files == ("7", "8")
    assert scores.table.y_true.tolist() == [[1], [0]]
    message = told("score_Effusion,x\n0.9,7\n0.2,8\n")
    assert (
        "'P.csv' has no column that names the films" in message and "score_Effusion, x" in message
    )


def test_the_column_of_a_data_frame_without_a_title_may_name_the_films():
    scores = read(",Effusion\na.png,0.9\nb.png,0.2\n", ",image,Effusion\n0,a.png,1\n1,b.png,0\n")
    assert scores.table.files == ("a.png", "b.png")
    assert noted(scores) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_commas_semicolons_tabs_and_byte_order_marks(delimiter, end, mark):
    as_written = [
        mark + text.replace(",", delimiter).replace("\n", end).encode() for text in (SCORES, LABELS)
    ]
    assert read_scores(*as_written).table.y_score.tolist() == read(SCORES).table.y_score.tolist()
    assert read_scores(*as_written).notes == read(SCORES).notes


def test_a_byte_order_mark_is_no_part_of_a_title():
    marked = b"\xef\xbb\xbfimage,Effusion\n7,0.9\n8,0.2\n"
    assert read_scores(marked, b"image,Effusion\n7,1\n8,0\n").table.files == ("7", "8")


def test_of_two_columns_that_may_name_the_films_the_plainer_counts_then_the_first():
    scores = read("id,Image ID,image_id,Effusion\n1,a.png,x,0.9\n2,b.png,y,0.2\n", EFFUSION)
    assert scores.table.files == ("a.png", "b.png")


def test_a_decimal_comma_is_read_where_commas_do_not_stand_between_cells():
    scores = read("image;Effusion\na.png;0,9\nb.png;0,25\n")
    assert scores.table.y_score.tolist() == [[0.9], [0.25]]


def test_a_score_goes_before_a_decision_and_both_before_a_bare_name():
    text = "image,Effusion,pred_Effusion,prob_Effusion\na.png,1,1,0.9\nb.png,0,1,0.7\n"
    scores = read(text, text)
    assert scores.table.y_score.tolist() == [[0.9], [0.7]]
    assert scores.table.y_true.tolist() == [[1], [0]]
    message = told("image,prob_Effusion,score_Effusion\na.png,1,1\n")
    assert "'prob_Effusion' and 'score_Effusion', and either may be of Effusion" in message


def test_labels_are_never_taken_for_scores_of_themselves():
    assert "scores of nothing, and labels" in told(LABELS, LABELS)
    text = "image,score,label\na.png,0.7,1\nb.png,0.6,0\nc.png,0.1,1\n"
    scores = read(text, text)
    assert scores.table.labels == ("label",)
    assert scores.table.y_score.tolist() == [[0.7], [0.6], [0.1]]


def test_the_only_score_is_of_the_only_label_where_one_has_no_name():
    scores = read("image,probability\na.png,0.9\nb.png,0.2\n", EFFUSION)
    assert scores.table.labels == ("Effusion",)
    assert noted(scores)[0] == (
        "'probability' of 'P.csv' was taken for the score of 'Effusion' in 'L.csv': there is no "
        "other."
    )
    assert read("image,p_Mass\na.png,0.9\n", "image,target\na.png,1\n").table.labels == ("Mass",)
    assert "scores of Mass, and labels Effusion" in told("image,p_Mass\na.png,0.9\n", EFFUSION)
    assert "scores of probability, and labels" in told("image,probability\na.png,0.9\n", LABELS)


# --- the CSV of the NIH ---


def test_the_csv_of_the_nih_says_what_is_true_and_who_it_is():
    scores = read(
        "Image Index,Infiltrate,pleural thickening,Effusion,No Finding\n"
        "00000001_000.png,0.1,0.2,0.9,0.1\n00000001_001.png,0.2,0.1,0.1,0.9\n"
        "00000002_000.png,0.8,0.1,0.3,0.2\n00000003_000.png,0.3,0.7,0.2,0.4\n",
        NIH,
    )
    table = scores.table
    assert table.labels == ("Infiltration", "Pleural_Thickening", "Effusion", "No Finding")
    assert table.y_true.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert table.patients == ("1", "1", "2", "3")
    assert table.age == (58.0, 58.0, 0.75, None)
    assert table.sex == ("M", "M", "F", "F")
    assert table.view == ("PA", "AP", "PA", "PA")
    assert scores.notes == (
        "Left out: what only 'L.csv' has, Cardiomegaly, Atelectasis, Consolidation and 8 more.",
        "Taken as unknown, in the column 'Patient Age' of 'L.csv': 1, such as '411Y'.",
    )


def test_findings_that_no_one_knows_leave_their_films_out():
    labels = NIH.replace("|Effusion", "|Efusion").replace("Infiltration", "No Finding|Mass")
    predictions = "image,Effusion\n" + "".join(
        f"0000000{name}.png,0.5\n" for name in ("1_000", "1_001", "2_000", "3_000")
    )
    scores = read(predictions, labels)
    assert scores.table.files == ("00000001_001.png", "00000003_000.png")
    assert (
        "Left out: 2 films with a label missing in 'L.csv' (00000001_000.png, 00000002_000.png)."
        in scores.notes
    )
    assert (
        "The column 'Finding Labels' of 'L.csv' holds 'Cardiomegaly|Efusion' for "
        "'00000001_000.png'. Allowed are 'No Finding' alone, or findings of the NIH with | between "
        "them." in scores.notes
    )


def test_a_finding_beyond_those_of_the_nih_counts_where_it_has_scores():
    labels = NIH.replace("|Effusion", "|Scoliosis")
    predictions = "image,Scoliosis\n00000001_000.png,0.9\n00000001_001.png,0.1\n"
    scores = read(predictions, labels)
    assert scores.table.labels == ("Scoliosis",)
    assert scores.table.y_true.tolist() == [[1], [0]]


# --- our own files ---


def test_our_own_predictions_are_both_at_once():
    source = ROOT / "models" / "pediatric-pneumonia" / "predictions.csv"
    ours = read_predictions(source)
    scores = read_score_files(source, source)
    order = np.argsort(ours.files)
    assert scores.table.files == tuple(sorted(ours.files))
    assert scores.table.patients == tuple(ours.patients[k] for k in order)
    assert (scores.table.y_true == ours.y_true[order]).all()
    assert (scores.table.y_score == ours.y_score[order]).all()
    assert scores.notes == ()


def test_who_the_patients_are_comes_with_our_own_predictions(tmp_path):
    table = PredictionTable(
        files=("a.png", "b.png", "c.png"),
        patients=("p1", "p2", "p3"),
        labels=("COVID-19",),
        y_true=np.array([[1], [0], [1]]),
        y_score=np.array([[0.9], [1 / 3], [0.4]]),
        split="test",
        view=("PA", "", "AP"),
        age=(5.5, None, 70.0),
        sex=("F", "M", ""),
    )
    write_predictions(tmp_path / "p.csv", table)
    back = read_score_files(tmp_path / "p.csv", tmp_path / "p.csv").table
    assert (back.files, back.patients, back.labels) == (table.files, table.patients, table.labels)
    assert (back.view, back.age, back.sex) == (table.view, table.age, table.sex)
    assert (back.y_score == table.y_score).all()


def answer(label: str, probability: float, point: float | None) -> dict[str, object]:
    return {
        "label": label,
        "probability": probability,
        "operating_point": point,
        "flag": point is not None and probability >= point,
        "cannot_tell": False,
    }


def written(tmp_path: Path, labels: tuple[str, ...], points: tuple[float | None, ...]) -> str:
    """What `predict --csv` writes of three answered films, one refused and one not read."""
    probabilities = ((0.9, 0.1), (0.25, 0.75), (0.6, 0.4))
    rows: list[dict[str, object]] = [
        {
            "file": f"films/{name}.png",
            "ok": True,
            "gate": {"verdict": "ok"},
            "predictions": [answer(*of) for of in zip(labels, shares, points, strict=True)],
        }
        for name, shares in zip("abc", probabilities, strict=True)
    ]
    rows.append(
        {"file": "films/d.png", "ok": True, "gate": {"verdict": "refuse"}, "predictions": []}
    )
    rows.append({"file": "films/e.png", "ok": False, "error": "Not a film, or damaged."})
    write_table(tmp_path / "out.csv", rows, labels)
    return (tmp_path / "out.csv").read_text("utf-8")


ANSWERED = "image,Effusion,Mass\na.png,1,0\nb.png,0,1\nc.png,0,1\nd.png,1,0\ne.png,1,0\n"


def test_what_predict_writes_brings_its_operating_points(tmp_path):
    text = written(tmp_path, ("Effusion", "Mass"), (0.25, 0.8))
    scores = read(text, ANSWERED)
    assert scores.table.files == ("films/a.png", "films/b.png", "films/c.png")
    assert scores.operating_points == (0.25, 0.8)
    assert noted(scores) == [
        "Matched by names without folders: 5, such as 'films/a.png' and 'a.png'.",
        "Left out: 2 films without an answer in 'P.csv' (films/d.png, films/e.png).",
        selected(3, 5),
    ]
    report = evaluate_scores(scores)
    assert report.label("Effusion").confusion == ((0, 2), (0, 1))
    assert report.label("Mass").confusion == ((1, 0), (2, 0))
    assert not any("assumed" in note for note in report.notes)
    assert evaluate_scores(scores, threshold=0.7).label("Effusion").confusion == ((2, 0), (0, 1))


def test_operating_points_that_change_are_not_used(tmp_path):
    text = written(tmp_path, ("Effusion", "Mass"), (0.25, 0.8)).replace("0.6,0.25", "0.6,0.3")
    scores = read(text, ANSWERED)
    assert scores.operating_points == (None, 0.8)
    assert any("operating points of Effusion in 'P.csv' are not one" in one for one in scores.notes)
    report = evaluate_scores(scores)
    assert [one.operating_point for one in report.labels] == [None, 0.8]
    assert report.label("Effusion").confusion is None
    assert not any("assumed" in note for note in report.notes)


def test_a_blank_operating_point_decides_nothing(tmp_path):
    scores = read(written(tmp_path, ("Effusion", "Mass"), (None, 0.8)), ANSWERED)
    assert (scores.operating_points, scores.points_came) == ((None, 0.8), (True, True))
    report = evaluate_scores(scores)
    assert [one.operating_point for one in report.labels] == [None, 0.8]
    assert report.label("Effusion").confusion is None
    assert report.label("Effusion").notes[0] == (
        "Effusion has no operating point, so no film is flagged or cleared."
    )
    assert not any("assumed" in note for note in report.notes)
    assert evaluate_scores(scores, threshold=0.7).label("Effusion").confusion == ((2, 0), (0, 1))


def test_one_half_is_assumed_of_labels_without_a_column_of_operating_points_alone():
    scores = read(
        "image,p_Effusion,operating_point_Effusion,p_Mass,Nodule,operating point Nodule\n"
        "a.png,0.9,,0.1,0.6,0.3\nb.png,0.2,,0.8,0.2,0.3\n",
        "image,Effusion,Mass,Nodule\na.png,1,0,1\nb.png,0,1,1\n",
    )
    report = evaluate_scores(scores, advice="Move the slider.")
    assert [one.operating_point for one in report.labels] == [None, 0.5, 0.3]
    assert (
        "No operating point came with Mass: 0.5 is assumed, which is seldom a good one. Move the "
        "slider." in report.notes
    )


def test_a_model_that_chooses_is_scored_by_what_it_chose(tmp_path):
    text = written(tmp_path, ("Effusion", "Mass"), (None, None))
    scores = read(text, ANSWERED)
    assert scores.exclusive
    report = evaluate_scores(scores)
    assert report.matrix == ((1, 0), (1, 1))
    assert not any("assumed" in note for note in report.notes)
    assert evaluate_scores(scores, threshold=0.5).matrix is None
    both = read(text, ANSWERED.replace("a.png,1,0", "a.png,1,1"))
    assert not both.exclusive
    assert not read(text, EFFUSION).exclusive  # a choice among two cannot be told from one
    one = "file,probability_Effusion,operating_point_Effusion\na.png,0.9,\nc.png,0.2,\n"
    assert not read(one, EFFUSION).exclusive  # nor is there any among one


# --- which film is which ---


def test_names_match_whole_else_without_folders_else_without_extension():
    scores = read(
        "image,Effusion\nx/a.png,0.9\nC:\\\\films\\\\b.png,0.2\nc.jpg,0.4\nd.png,0.3\n", LABELS
    )
    assert scores.table.files == ("C:\\\\films\\\\b.png", "c.jpg", "d.png", "x/a.png")
    assert scores.table.y_true.tolist() == [[0], [1], [0], [1]]
    assert noted(scores)[1:] == [
        "Matched by names without folders: 2, such as 'C:\\\\films\\\\b.png' and 'b.png'.",
        "Matched by names without folders and extension: 1, such as 'c.jpg' and 'c.png'.",
    ]


def test_a_whole_name_goes_before_all_else():
    labels = "image,Effusion\nx/a.png,1\na.png,0\n"
    scores = read("image,Effusion\na.png,0.2\nx/a.png,0.9\n", labels)
    assert scores.table.files == ("a.png", "x/a.png")
    assert scores.table.y_true.tolist() == [[0], [1]]
    assert noted(scores) == []


@pytest.mark.parametrize(
    "predictions, labels",
    [
        ("x/a.png y/a.png z.png", "a.png z.png"),
        ("a.png z.png", "x/a.png y/a.png z.png"),
        ("a.jpg a.png z.png", "x/a.tif z.png"),
        ("a.jpg z.png", "a.png a.tif z.png"),
    ],
)
def test_films_that_become_alike_are_left_out(predictions, labels):
    scores = read(column(predictions, "0.5"), column(labels, "1"))
    assert scores.table.files == ("z.png",)
    unclear = ", ".join(sorted(predictions.split()[:-1]))
    assert any(
        f"with a name that fits several, without folders or extension ({unclear})" in note
        for note in scores.notes
    )


def column(names: str, value: str) -> str:
    return "image,Effusion\n" + "".join(f"{name},{value}\n" for name in names.split())


def test_folders_that_contradict_each_other_keep_films_apart():
    scores = read(
        column("NORMAL/1.png PNEUMONIA/2.png z.png", "0.5"), column("NORMAL/2.png z.png", "1")
    )
    assert scores.table.files == ("z.png",)
    assert noted(scores) == [
        "Left out: 2 films of 'P.csv' without labels in 'L.csv' (NORMAL/1.png, PNEUMONIA/2.png).",
        "Left out: 1 film of 'L.csv' without scores in 'P.csv' (NORMAL/2.png).",
    ]
    assert "No film of 'P.csv' was found" in told(
        column("PNEUMONIA/2.jpg", "0.5"), column("NORMAL/2.png", "1")
    )


@pytest.mark.parametrize(
    "ours, theirs, same",
    [
        ("2.png", "NORMAL/2.png", True),
        ("a/NORMAL/2.png", "NORMAL/2.png", True),
        ("a\\NORMAL\\2.png", "NORMAL/2.png", True),
        ("./2.png", "2.png", True),
        ("NORMAL/2", "a/NORMAL/2.png", True),
        ("NORMAL/2.jpg", "2.png", True),
        ("PNEUMONIA/2.png", "NORMAL/2.png", False),
        ("PNEUMONIA/2", "NORMAL/2.png", False),
        ("a/NORMAL/2.png", "b/NORMAL/2.png", False),
        ("ABNORMAL/2.png", "NORMAL/2.png", False),
        ("/", "NORMAL/2.png", False),
    ],
)
def test_one_path_must_end_as_the_whole_of_the_other(ours, theirs, same):
    for mine, other in ((ours, theirs), (theirs, ours)):
        scores = read(column(f"{mine} z", "0.5"), column(f"{other} z", "1"))
        assert scores.table.files == ((*sorted((mine, "z")),) if same else ("z",))


def test_folders_tell_films_of_one_name_apart():
    names = [f"p{patient}/s{study}/view.jpg" for patient in range(300) for study in (1, 2)]
    truth = {name: k % 2 for k, name in enumerate(names)}
    scores = read(
        "image,Effusion\n" + "".join(f"{name},{truth[name] / 2}\n" for name in names),
        "image,Effusion\n" + "".join(f"data/valid/{n},{truth[n]}\n" for n in reversed(names)),
    )
    assert scores.table.files == tuple(sorted(names))
    assert (scores.table.y_score * 2 == scores.table.y_true).all()


def test_a_number_with_points_has_no_extension():
    labels = "image,Effusion\n1.2.840.3,1\na.png,0\n"
    scores = read("image,Effusion\n1.2.840.4,0.9\na.png,0.2\n", labels)
    assert scores.table.files == ("a.png",)
    dicom = read("image,Effusion\n1.2.840.3.dcm,0.9\na.png,0.2\n", labels)
    assert dicom.table.files == ("1.2.840.3.dcm", "a.png")


def test_films_of_one_file_only_are_counted_and_three_are_named():
    scores = read(
        "image,Effusion\na.png,0.9\nv.png,0.1\nu.png,0.1\nx.png,0.1\nw.png,0.1\n", EFFUSION
    )
    assert noted(scores) == [
        "Left out: 4 films of 'P.csv' without labels in 'L.csv' (u.png, v.png, w.png and 1 more).",
        "Left out: 3 films of 'L.csv' without scores in 'P.csv' (b.png, c.png, d.png).",
    ]
    assert scores.table.files == ("a.png",)


def test_a_film_that_comes_twice_with_the_same_values_counts_once():
    scores = read(EFFUSION_SCORES + "a.png,0.90\n", EFFUSION + "b.png,0.0\n")
    assert scores.table.files == ("a.png", "b.png", "c.png", "d.png")
    same = "more than once, with the same values, and counted once"
    assert noted(scores) == [f"In 'P.csv' {same}: a.png.", f"In 'L.csv' {same}: b.png."]


@pytest.mark.parametrize(
    "predictions, labels, message",
    [
        (EFFUSION_SCORES + "a.png,0.8\n", EFFUSION, "'P.csv' has 'a.png' more than once"),
        (EFFUSION_SCORES + "a.png,\n", EFFUSION, "'P.csv' has 'a.png' more than once"),
        (EFFUSION_SCORES, EFFUSION + "b.png,1\n", "'L.csv' has 'b.png' more than once"),
        (
            EFFUSION_SCORES,
            "image,Effusion,patient\nb.png,1,p1\nb.png,1,p2\n",
            "'L.csv' has 'b.png' more than once",
        ),
    ],
)
def test_a_film_that_comes_twice_with_different_values_is_an_error(predictions, labels, message):
    assert message in told(predictions, labels)


def test_lines_that_name_no_film_are_counted():
    assert "Left out: lines of 'P.csv' that name no film, 2 in all." in noted(
        read(EFFUSION_SCORES + ",0.1\n,0.2\n", EFFUSION)
    )


# --- what cannot be used ---


def test_labels_of_one_file_only_are_named_with_what_may_be_meant():
    scores = read(
        "image,Mass,Oedema,Hernia\na.png,0.9,0.1,0.2\nb.png,0.2,0.3,0.1\n",
        "image,Edema,Mass,Nodule,Comment\na.png,1,1,0,x\nb.png,0,0,1,y\n",
    )
    assert scores.table.labels == ("Mass",)
    assert noted(scores) == [
        "Left out: what only 'P.csv' has, Oedema (is that Edema?), Hernia.",
        "Left out: what only 'L.csv' has, Edema (is that Oedema?), Nodule.",
    ]


def test_scores_that_are_no_probabilities_leave_their_label_out():
    scores = read("image,Effusion,Mass\nb.png,-3.5,0.8\nc.png,0.4,0.3\na.png,2.4,0.1\n")
    assert scores.table.labels == ("Mass",)
    assert scores.table.files == ("a.png", "b.png", "c.png")
    assert noted(scores)[0] == (
        "Left out: Effusion, for its scores in 'P.csv' outside of 0 to 1: 2, such as '2.4' for "
        "'a.png'. Logits must go through a sigmoid first, and per cent be divided by 100."
    )


@pytest.mark.parametrize("value", ["inf", "-0.001", "1.0001", "1e400"])
def test_no_score_beyond_zero_and_one_passes(value):
    assert "outside of 0 to 1: 1, such as" in told(f"image,Effusion\na.png,{value}\nb.png,0.2\n")


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "N/A", "null"])
def test_a_film_without_a_score_is_left_out_for_all_labels(cell):
    scores = read(SCORES.replace("b.png,0.2", f"b.png,{cell}"))
    assert scores.table.files == ("a.png", "c.png", "d.png")
    assert noted(scores) == [
        "Left out: 1 film with a score missing in 'P.csv' (b.png).",
        costly("'prob_Effusion' of 'P.csv' (1)"),
        selected(3, 4),
    ]


@pytest.mark.parametrize("cell", ["high", "0_2", "0.2.1", "50%"])
def test_a_score_that_is_no_number_is_named_and_its_film_left_out(cell):
    scores = read(SCORES.replace("b.png,0.2", f"b.png,{cell}"))
    assert scores.table.files == ("a.png", "c.png", "d.png")
    assert noted(scores) == [
        f"Scores of Effusion in 'P.csv' that are no numbers: 1, such as '{cell}' for 'b.png'.",
        "Left out: 1 film with a score missing in 'P.csv' (b.png).",
        costly("'prob_Effusion' of 'P.csv' (1)"),
        selected(3, 4),
    ]


def test_a_label_without_any_number_or_any_truth_is_left_out():
    scores = read("image,Effusion,Mass\na.png,low,0.1\nb.png,high,0.8\n")
    assert scores.table.labels == ("Mass",)
    assert noted(scores)[0] == "Left out: Effusion, of which 'P.csv' holds no number."
    scores = read(SCORES, "image,Effusion,Mass\nb.png,0.7,1\na.png,0.3,0\n")
    assert scores.table.labels == ("Mass",)
    assert noted(scores)[0] == (
        "Left out: Effusion, of which 'L.csv' tells nothing that can be read: it has '0.3' for "
        "'a.png'. Allowed are 0 and 1, false and true, no and yes."
    )


@pytest.mark.parametrize("cell", ["", "-1", "-1.0", "2", "maybe"])
def test_a_film_of_which_a_label_is_not_known_is_left_out(cell):
    scores = read(SCORES, LABELS.replace("c.png,1,0", f"c.png,1,{cell}"))
    assert scores.table.files == ("a.png", "b.png", "d.png")
    assert noted(scores) == [
        "Left out: 1 film with a label missing in 'L.csv' (c.png).",
        f"The column 'Mass' of 'L.csv' holds '{cell}' for 'c.png'. Allowed are 0 and 1, false and "
        "true, no and yes.",
        costly("'Mass' of 'L.csv' (1)"),
        selected(3, 4),
    ]


def test_a_film_that_lacks_both_is_told_of_once():
    scores = read(SCORES.replace("c.png,0.4", "c.png,"), LABELS.replace("c.png,1,0", "c.png,1,"))
    assert noted(scores) == [
        "Left out: 1 film with a score missing in 'P.csv' (c.png).",
        costly("'prob_Effusion' of 'P.csv' (1)", "'Mass' of 'L.csv' (1)"),
        selected(3, 4),
    ]


def test_the_columns_that_cost_most_films_come_first():
    # b lacks an answer, c and d the truth of Mass, d the score of Effusion too: a and e stay.
    scores = read(
        "image,p_Effusion,p_Mass\na,0.9,0.1\nb,,\nc,0.4,0.3\nd,,0.6\ne,0.2,0.2\n",
        "image,Effusion,Mass\na,1,0\nb,,1\nc,1,\nd,0,\ne,0,1\n",
    )
    assert scores.table.files == ("a", "e")
    assert noted(scores)[-2:] == [
        costly("'Mass' of 'L.csv' (2)", "'p_Effusion' of 'P.csv' (1)"),
        selected(2, 5),
    ]


def test_findings_cost_a_film_once_whatever_the_number_of_labels():
    scores = read(
        "image,Effusion,Mass\na,0.9,0.1\nb,0.2,0.3\nc,0.1,0.2\n",
        "image,Finding Labels\na,Effusion\nb,Efusion\nc,Mass\n",
    )
    assert scores.table.files == ("a", "c")
    assert noted(scores)[-2:] == [costly("'Finding Labels' of 'L.csv' (1)"), selected(2, 3)]


def test_a_label_that_no_film_has_stays():
    scores = read(SCORES, LABELS.replace("b.png,0,1", "b.png,0,0"))
    assert scores.table.labels == ("Effusion", "Mass")
    report = evaluate_scores(scores)
    assert report.label("Mass").auroc.value is None
    assert any("No film has Mass" in note for note in report.label("Mass").notes)


def test_ages_and_sexes_that_cannot_be_read_are_unknown():
    labels = (
        "image,Effusion,Age,Gender,View\na.png,1,58,F,pa\nb.png,0,old,M,\nc.png,1,,robot,Lateral\n"
    )
    scores = read(EFFUSION_SCORES, labels)
    assert scores.table.age == (58.0, None, None)
    assert scores.table.sex == ("F", "M", "")
    assert scores.table.view == ("PA", "", "LATERAL")
    unknown = "Taken as unknown, in the column"
    assert [note for note in scores.notes if unknown in note] == [
        f"{unknown} 'Age' of 'L.csv': 1, such as 'old'.",
        f"{unknown} 'Gender' of 'L.csv': 1, such as 'robot'.",
    ]


def test_a_film_without_a_patient_is_one_of_its_own():
    scores = read(EFFUSION_SCORES, "image,Effusion,Patient ID\na.png,1,p1\nb.png,0,\nc.png,1,p1\n")
    assert scores.table.patients == ("p1", "b.png", "p1")
    assert not any(NO_PATIENTS in note for note in scores.notes)


# --- nothing is left ---


@pytest.mark.parametrize(
    "predictions, labels, messages",
    [
        (
            "image,Hernia,Nodule\na.png,0.1,0.2\n",
            LABELS,
            (
                "No label of 'P.csv' is in 'L.csv'",
                "scores of Hernia, Nodule",
                "labels Effusion, Mass",
            ),
        ),
        (
            "case,Effusion\nx1.png,0.1\nx2.png,0.3\n",
            LABELS,
            (
                "No film of 'P.csv' was found in 'L.csv'",
                "the column 'case' of 'P.csv' has x1.png, x2.png",
                "the column 'image' of 'L.csv' has a.png, b.png",
            ),
        ),
        (
            "image,Effusion\na.png,7\nb.png,-2\n",
            LABELS,
            ("No label is left to evaluate.", "such as '7' for 'a.png'", "sigmoid"),
        ),
        (
            "image,Effusion,Mass\na.png,,0.5\nb.png,0.4,\nq.png,0.1,0.1\n",
            LABELS,
            (
                "No film is left to evaluate.",
                "2 films with a score missing in 'P.csv' (a.png, b.png)",
            ),
        ),
    ],
)
def test_errors_say_why_nothing_is_left_and_name_examples(predictions, labels, messages):
    message = told(predictions, labels)
    for part in messages:
        assert part in message


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "'P.csv' lists no films"),
        (b"\xef\xbb\xbf \n\n", "'P.csv' lists no films"),
        (b"image,Effusion\n", "'P.csv' lists no films"),
        ("image,Effusion\na.png,0.9\n".encode("utf-16"), "'P.csv' cannot be read as a CSV"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "'P.csv' cannot be read as a CSV"),
        (b'image,Effusion\n"a.png,0.9\n', "'P.csv' cannot be read as a CSV"),
        (b"image,Effusion,image\na.png,0.9,a.png\n", "two columns named image"),
        (b"image,Effusion\na.png,0,9\n", "begins with 'a.png' has 3 cells, but there are 2 titles"),
        (b'{"a.png": 0.9}\n{"b.png": 0.2}', "No label of 'P.csv'"),
    ],
)
def test_a_file_that_is_no_table_is_an_error(content, message):
    with pytest.raises(DataError, match=r"P\.csv") as caught:
        read_scores(content, LABELS.encode())
    assert message in str(caught.value)


def test_errors_and_notes_call_the_files_what_they_are_called(tmp_path):
    with pytest.raises(
        DataError, match=r"'theirs\.csv' has no column|'theirs\.csv' lists no films"
    ):
        read_scores(SCORES.encode(), b"", names=("ours.csv", "theirs.csv"))
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
        read_score_files(tmp_path / "absent.csv", tmp_path / "absent.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_score_files(tmp_path, tmp_path)


# --- the report ---


def test_the_report_is_what_scikit_learn_says():
    generator = np.random.default_rng(3)
    score = np.round(generator.random((200, 2)), 2)
    truth = (generator.random((200, 2)) < score).astype(int)
    predictions = "".join(f"{k}.png,{a},{b}\n" for k, (a, b) in enumerate(score.tolist()))
    labels = "".join(f"{k}.png,{b},{a}\n" for k, (a, b) in enumerate(truth.tolist()))
    scores = read("image,p_x,p_y\n" + predictions, "image,y,x\n" + labels)
    report = evaluate_scores(scores, model="theirs", threshold=0.3)
    assert (report.model, report.split, report.n) == ("theirs", "outside", 200)
    for k, label in enumerate(report.labels):
        assert label.auroc.value == pytest.approx(metrics.roc_auc_score(truth[:, k], score[:, k]))
        assert label.auprc.value == pytest.approx(
            metrics.average_precision_score(truth[:, k], score[:, k])
        )
        counts = metrics.confusion_matrix(truth[:, k], score[:, k] >= 0.3).tolist()
        assert [list(row) for row in label.confusion] == counts


def test_without_an_operating_point_one_half_is_assumed_and_said():
    scores = read(SCORES)
    report = evaluate_scores(scores)
    assert [label.operating_point for label in report.labels] == [0.5, 0.5]
    assert report.label("Effusion").confusion == ((2, 0), (1, 1))
    assert report.notes[: len(scores.notes) + 1] == (
        *scores.notes,
        "No operating point came with these scores: 0.5 is assumed, which is seldom a good one.",
    )
    given = evaluate_scores(scores, threshold=0.4)
    assert given.label("Effusion").confusion == ((2, 0), (0, 2))
    assert not any("assumed" in note for note in given.notes)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_lies_between_zero_and_one(threshold):
    with pytest.raises(ArgumentError, match=r"operating point must lie in \[0, 1\]"):
        evaluate_scores(read(SCORES), threshold=threshold)


# --- order, size, weight ---


def as_csv(rows: list[tuple[object, ...]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    return lines.getvalue().encode()


# What can be used comes more often than what cannot, so that films are left to compare.
films = st.lists(
    st.tuples(
        st.sampled_from(["a.png", "x/a.png", "b.jpg", "b.png", "c.png", "d.png", "e.png", "f.png"]),
        st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0, "", "high"]),
        st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0, 2.5, "nan"]),
    ),
    min_size=4,
    max_size=8,
    unique_by=lambda film: film[0],
)
facts = st.lists(
    st.tuples(
        st.sampled_from(["a.png", "y/b.png", "c.png", "d.jpg", "e.png", "f.png"]),
        st.sampled_from([0, 1, 0.0, "false", "-1"]),
        st.sampled_from([0, 1, "yes", "no", ""]),
        st.sampled_from(["p1", "p2", ""]),
        st.sampled_from(["58", "old", ""]),
    ),
    min_size=4,
    max_size=6,
    unique_by=lambda film: film[0],
)


def outcome(predictions: list[tuple[object, ...]], labels: list[tuple[object, ...]]) -> object:
    """Everything that reading gives, or what it says instead."""
    try:
        scores = read_scores(
            as_csv([("image", "Effusion", "Mass"), *predictions]),
            as_csv([("image", "Effusion", "Mass", "patient", "age"), *labels]),
        )
    except DataError as problem:
        return str(problem)
    table = scores.table
    arrays = (table.y_true.tolist(), table.y_score.tolist())
    return (table.files, table.patients, table.labels, table.age, arrays, scores.notes)


@settings(max_examples=150, deadline=None)
@given(films, facts, st.randoms(use_true_random=False))
def test_the_order_of_lines_changes_nothing(predictions, labels, random):
    # A film that comes twice with the same values comes among them too.
    predictions, labels = [*predictions, predictions[0]], [*labels, labels[-1]]
    before = outcome(predictions, labels)
    random.shuffle(predictions)
    random.shuffle(labels)
    assert outcome(predictions, labels) == before


def test_many_films_are_matched_without_their_extensions():
    count = 3000
    rng = np.random.default_rng(0)
    truth, score = rng.random((count, 14)) < 0.1, rng.random((count, 14))
    labels = [
        (f"{k:08d}.png", "|".join(np.array(NIH_FINDINGS)[row]) or "No Finding", k // 2)
        for k, row in enumerate(truth)
    ]
    predictions = [(f"images/{k:08d}.jpg", *row) for k, row in enumerate(score.tolist())]
    scores = read_scores(
        as_csv([("image", *NIH_FINDINGS), *predictions[::-1]]),
        as_csv([("Image Index", "Finding Labels", "Patient ID"), *labels]),
    )
    assert (scores.table.y_true == truth).all()
    assert (scores.table.y_score == score).all()
    assert len(set(scores.table.patients)) == count // 2


def test_outside_scores_are_evaluated_without_tensorflow(tmp_path):
    (tmp_path / "P.csv").write_text(SCORES)
    (tmp_path / "L.csv").write_text(LABELS)
    code = (
        "import sys, cxr_core.__main__ as m\n"
        f"given = ['--predictions', {str(tmp_path / 'P.csv')!r}]\n"
        f"given += ['--labels', {str(tmp_path / 'L.csv')!r}]\n"
        "assert m.main(['evaluate', *given, '--json']) == 0\n"
        "sys.exit(sorted({'tensorflow', 'keras', 'streamlit'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["model"] == "P"
