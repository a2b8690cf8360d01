"""Finding films and answering them: order, overlap, what is left out, lines of evidence."""

import json
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import find_contours

from cxr_core.classifier import load_classifier
from cxr_core.errors import ArgumentError, UnreadableImage
from cxr_core.phantom import png_bytes, thorax
from cxr_core.preprocess import Placement, Preprocessing, place, restore
from cxr_core.screening import answers, films_of, find_films, prepare_film, screen
from cxr_core.screening.answers import Answer
from cxr_core.screening.outlines import GRID, outlines
from cxr_core.screening.table import packed, row_of, schema_of

MODEL = "pediatric-pneumonia"


@pytest.fixture(scope="module")
def classifier():
    return load_classifier(MODEL)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two films, one of them twice, and a file that is none."""
    folder = tmp_path_factory.mktemp("films")
    first = png_bytes(thorax(96, 96, seed=1))
    (folder / "a.png").write_bytes(first)
    (folder / "b.png").write_bytes(b"not a film")
    (folder / "c").write_bytes(png_bytes(thorax(96, 80, seed=2)))
    (folder / "d.png").write_bytes(first)
    return folder


# --- which films ---


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_walked_in_the_order_of_its_paths(tmp_path):
    names = ("b/2", "b/10", "b.png", "a/z/1", "a.png", "B", "b/.hidden", ".hidden/1", "c/")
    touch(tmp_path, *(name for name in names if not name.endswith("/")))
    (tmp_path / "c").mkdir()
    (tmp_path / "b" / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b" / "link").symlink_to(tmp_path / "b.png")

    told = [os.path.relpath(film, tmp_path) for film in find_films([str(tmp_path)])]

    assert told == ["B", "a/z/1", "a.png", "b/10", "b/2", "b/link", "b.png"]
    by_path = sorted(item.relative_to(tmp_path) for item in tmp_path.rglob("*") if item.is_file())
    visible = [str(item) for item in by_path if "hidden" not in str(item)]
    assert told == visible


def test_an_archive_is_a_folder_a_pattern_or_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "study/DICOMDIR", "study/IMG1", "study/IMG2", "x[1].png", "other/a.png")
    (tmp_path / "list").write_bytes(b"study/IMG2\r\n\nabsent\nstudy/DICOMDIR\n\xff.png\n")

    assert list(films_of(["study"])) == ["study/IMG1", "study/IMG2"]
    assert list(films_of(["study/*"])) == ["study/IMG1", "study/IMG2"]
    assert list(films_of(["s*"])) == ["study/IMG1", "study/IMG2"]
    assert list(films_of(["**/*.png"])) == ["other/a.png", "x[1].png"]
    assert list(films_of(["x[1].png"])) == ["x[1].png"]  # a file before a pattern
    assert list(films_of(["@list", "x[1].png"])) == [
        "study/IMG2",
        "absent",
        "\udcff.png",
        "x[1].png",
    ]
    assert find_films(["study"]) == ["study/DICOMDIR", "study/IMG1", "study/IMG2"]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("absent", "no file or folder 'absent'"),
        ("*.dcm", "Nothing matches '*.dcm'"),
        ("@absent", "The list 'absent' cannot be read"),
        ("empty", "holds no files"),
    ],
)
def test_what_names_nothing_is_told(tmp_path, monkeypatch, argument, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=told.replace("*", r"\*")):
        list(films_of([argument]))


# --- answers ---


def test_every_film_is_answered_in_order_as_it_would_be_alone(classifier, films):
    names = [str(films / name) for name in ("d.png", "b.png", "a.png", "c", "absent")] * 9

    told = list(screen(classifier, iter(names), readers=3))

    assert [one.file for one in told] == names
    for answer in told[:5]:
        alone = prepare_film(films / answer.file, answer.file, classifier.card)
        if answer.error:
            assert isinstance(alone, Answer) and str(alone.error) == str(answer.error)
            assert answer.digest is None
        else:
            said = alone.answered(classifier.predict(alone.model_input))
            assert said.to_json(MODEL) == answer.to_json(MODEL)
            assert said.digest == answer.digest
    assert told[0].digest == told[2].digest != told[3].digest


def test_films_are_decoded_ahead_but_only_a_few(classifier, films, monkeypatch):
    taken, threads = [], set()
    plain = answers.prepare_film

    def watched(source, file, card, **more):
        threads.add(threading.current_thread())
        return plain(source, file, card, **more)

    def names():
        for number in range(200):
            taken.append(number)
            yield str(films / "b.png")

    monkeypatch.setattr(answers, "prepare_film", watched)
    told = screen(classifier, names(), readers=2)
    next(told)

    assert 1 < len(taken) <= answers.BATCH + 2
    assert threading.main_thread() not in threads
    told.close()
    assert len(taken) <= answers.BATCH + 2 and not any(one.is_alive() for one in threads)


def test_contours_come_with_flags_and_only_when_asked_for(classifier, films):
    name = [str(films / "a.png")]
    (plain,) = screen(classifier, name)
    assert plain.contours is None
    eager = replace(classifier.card, operating_points=(1e-9,))
    for card, flagged in ((eager, {"Pneumonia"}), (replace(eager, operating_points=(1.0,)), set())):
        asked = type(classifier)(card, classifier.network, classifier._graph)
        (answer,) = screen(asked, name, contours=True)
        assert set(answer.contours) == flagged
        for line in answer.contours.get("Pneumonia", ()):
            assert line.min() >= 0 and line.max() <= 95


# --- outlines ---


def test_the_outline_of_a_slope_is_where_half_the_peak_lies():
    """Values 0, 1, 2, 3 at x = 8, 24, 40, 56 of 64; half of 3 is reached in the middle, 31.5."""
    values = np.tile(np.arange(4, dtype=np.float32), (4, 1))

    (line,) = outlines(values, place(64, 64, Preprocessing(size=32)))

    assert line.dtype == np.float32 and (line[0] == line[-1]).all()
    assert line[:, 0].min() == pytest.approx(31.5, abs=0.06)
    assert (line.max(axis=0) == 63).all() and line[:, 1].min() == 0  # along the border
    inside = line[(line[:, 1] > 1) & (line[:, 1] < 62) & (line[:, 0] < 62)]
    assert inside[:, 0] == pytest.approx(np.full(len(inside), 31.5), abs=0.06)


def test_nothing_is_outlined_on_a_flat_map_and_two_peaks_twice():
    placement = place(300, 200, Preprocessing(size=32, fit="letterbox"))
    assert outlines(np.zeros((7, 7), np.float32), placement) == []
    assert outlines(np.ones((7, 7), np.float32), placement) == []
    values = np.zeros((9, 9), np.float32)
    values[2, 3] = values[6, 5] = 1

    top, bottom = sorted(outlines(values, placement), key=lambda line: line[:, 1].mean())

    # In the square of 32 pixels the film is 21 wide and begins at 5; a cell has 32 / 9.
    for line, row, column in ((top, 2, 3), (bottom, 6, 5)):
        middle = (line.min(axis=0) + line.max(axis=0)) / 2
        x = ((column + 0.5) * 32 / 9 - 5) * 200 / 21 - 0.5
        y = (row + 0.5) * 32 / 9 * 300 / 32 - 0.5
        assert middle == pytest.approx([x, y], abs=0.2)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=20, max_size=20),
    st.sampled_from([(40, 56), (64, 64), (640, 480)]),
)
def test_outlines_are_those_of_scikit_image(cells, shape):
    values = np.array(cells, np.float32).reshape(4, 5)
    placement = Placement(*shape, 32, 0, 0, 32, 32)
    share = min(1.0, GRID / max(shape))
    small = (round(shape[0] * share), round(shape[1] * share))
    laid = restore(values, replace(placement, height=small[0], width=small[1]))

    lines = outlines(values, placement)

    if not lines:
        assert laid.max() - laid.min() <= 1e-5 * max(laid.max(), 1e-12) or laid.max() <= 0
        return
    theirs = find_contours(np.pad(laid.astype(np.float64), 1), 0.5 * float(laid.max()))
    scale = np.array(shape) / small
    moved = [np.clip((one - 0.5) * scale - 0.5, 0, np.array(shape) - 1) for one in theirs]
    ours = np.concatenate(lines)[:, ::-1]
    for point in np.concatenate(moved)[::7]:
        assert np.abs(ours - point).max(axis=1).min() <= 0.06 + 1e-4 * max(shape)


# --- the table ---


def test_a_row_says_what_the_answer_says(classifier, films, tmp_path):
    import pyarrow.parquet as pq

    name = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.png")
    bad = Answer(name, error=UnreadableImage(f"{name}: damaged"))
    (good,) = screen(classifier, [str(films / "a.png")])
    drawn = replace(good, contours={"Pneumonia": [np.array([[1, 2.5], [3, 4]], np.float32)]})
    content = packed([row_of(one) for one in (bad, drawn)], schema_of(classifier.card, True))
    (tmp_path / "t.parquet").write_bytes(content)

    table = pq.read_table(tmp_path / "t.parquet")
    first, second = table.to_pylist()

    assert first["file"] == f"{tmp_path}/\\udcff.png" and "damaged" in first["error"]
    assert (first["ok"], first["code"], first["gate_report"]) == (False, "unreadable", None)
    assert first["flag_Pneumonia"] is None
    (said,) = good.to_json(MODEL)["predictions"]
    assert {name: second[f"{name}_Pneumonia"] for name in said if name != "label"} == {
        name: value for name, value in said.items() if name != "label"
    }
    assert json.loads(second["gate_report"]) == good.gate.to_json()
    assert second["contours_Pneumonia"] == [[[1, 2.5], [3, 4]]]
    assert table.schema.metadata[b"model"] == MODEL.encode()
