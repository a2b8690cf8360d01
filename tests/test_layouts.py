"""What each layout of a data folder says, and what it refuses to guess."""

import json
import os
import pickle
import time
from collections import OrderedDict

import numpy as np
import pytest

from cxr_core.__main__ import main
from cxr_core.datasets import (
    Box,
    DatasetIndex,
    Film,
    cooccurrence,
    index,
    layouts,
    list_layouts,
    overlap,
    recognises,
    summarise,
)
from cxr_core.datasets.pickles import load_plain
from cxr_core.errors import ArgumentError, DataError


def put(root, *files):
    """Write files that stand for films: an index reads names and digests, no pixels."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())
    return root


def findings(dataset):
    return {film.file: film.findings for film in dataset.films}


def only(dataset):
    (film,) = dataset.films
    return film


# --- which layout ---


MADE = {
    "class-folders": ("A/a.png", "B/b.png"),
    "nih-csv": ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "images/a.png"),
    "csv": ("labels.csv", "A/a.png"),
    "pickled-labels": ("train_labels.pkl", "train/a.png"),
    "tfrecord": ("data/001-438.tfrec", "preprocessed_data.csv"),
}


@pytest.mark.parametrize("name", MADE)
def test_a_layout_is_found_out(tmp_path, name):
    assert layouts.detect_layout(put(tmp_path, *MADE[name])) == name


def test_every_layout_has_a_recogniser():
    assert sorted(MADE) == list_layouts() == sorted(layouts._RECOGNISERS)


def test_a_folder_that_fits_two_layouts_is_not_guessed(tmp_path):
    put(tmp_path, "labels.csv", "labels.pkl", "a.png")
    with pytest.raises(DataError, match="as csv and as pickled-labels"):
        index(tmp_path)


def test_a_folder_that_fits_none_is_told_what_would(tmp_path):
    put(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match="2 films but nothing that says") as told:
        index(tmp_path)
    assert all(name in str(told.value) for name in MADE)


def test_tables_beside_class_folders_do_not_hide_them(tmp_path):
    put(tmp_path, "A/a.png", "B/b.png", "one.csv", "two.csv")
    assert index(tmp_path).layout == "class-folders"


def test_a_second_recogniser_is_refused():
    with pytest.raises(ArgumentError, match="already"):
        recognises("csv", "anything")(lambda root: True)


def test_a_file_that_cannot_be_opened_is_told_in_a_sentence(tmp_path, monkeypatch):
    put(tmp_path, "A/a.png")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match=r"A/a\.png' cannot be read \(Permission denied\)"):
        index(tmp_path)


# --- class-folders ---


def test_an_empty_class_is_named(tmp_path):
    put(tmp_path, "A/a.png", "B/images/b.png")
    with pytest.raises(DataError, match=r"class folder 'B' .* holds no films"):
        index(tmp_path)


def test_a_class_that_a_split_lacks_is_named_with_the_split(tmp_path):
    put(tmp_path, "train/A/a.png", "train/B/b.png", "test/A/c.png")
    with pytest.raises(DataError, match=r"split 'test' .* no class folder 'B'"):
        index(tmp_path)


def test_films_beside_class_folders_are_noted(tmp_path):
    dataset = index(put(tmp_path, "A/a.png", "B/b.png", "C/c.png", "loose.png"))
    assert dataset.classes == ("A", "B", "C")
    assert dataset.notes == ("1 files beside the class folders were not read.",)


# --- pickled-labels: what is in the pickle ---


def save(root, content, name="labels.pkl", protocol=4):
    put(root, "a.png", "b.png")
    (root / name).write_bytes(pickle.dumps(content, protocol))
    return root


AB = {"a.png": (), "b.png": ("Abnormal",)}
ONE_HOT = np.array([[1, 0], [0, 1]], np.float32)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "content",
    [
        {"a.png": 0, "b.png": 1},
        {"a": False, "b": True},
        {"a": "0", "b": "1"},
        {b"a": b"normal", b"b": b"ABNORMAL"},
        {"/somewhere/else/a.png": 0.0, "C:\\films\\b.png": 1.0},
        OrderedDict(a=np.int64(0), b=np.str_("Abnormal")),
        {"a": np.array([0]), "b": np.array([0, 1])},
        [("a", 0), ("b", 1)],
        (["a.png", "No Finding"], ["b.png", "abnormal"]),
        {"filenames": ["b", "a"], "labels": np.array([1, 0])},
        {"image": np.array(["b", "a"], object), "y": (1, 0)},
        np.array([["a.png", "normal"], ["b.png", "abnormal"]]),
        np.array([["a.png", 0], ["b.png", 1]], object),
        np.array([0, 1], ">i2"),
        np.array([[0], [1]]),
        np.array([False, True]),
        np.array([b"normal", b"abnormal"]),
        np.asfortranarray(ONE_HOT),
        ONE_HOT.tolist(),
        [0, 1],
    ],
    ids=str,
)
def test_labels_are_read_however_they_were_kept(tmp_path, content, protocol):
    assert findings(index(save(tmp_path, content, protocol=protocol))) == AB


def test_names_of_classes_are_kept(tmp_path):
    dataset = index(save(tmp_path, {"a": "NORMAL", "b": "Pneumonia"}))
    assert dataset.classes == ("NORMAL", "Pneumonia")
    assert findings(dataset) == {"a.png": (), "b.png": ("Pneumonia",)}


def test_what_had_to_be_assumed_is_noted(tmp_path):
    told = " ".join(index(save(tmp_path, ONE_HOT)).notes)
    assert "2 labels were taken in the sorted order" in told
    assert "the first place was taken as normal" in told
    assert index(save(tmp_path, {"a": 0, "b": 1})).notes == ()


PYTHON_2 = (
    b"(dp0\nS'a.png'\np1\nI0\nsS'b.png'\np2\nI1\ns.",
    b"\x80\x02}q\x01(X\x05\x00\x00\x00a.pngq\x02K\x00U\x05b.pngq\x03\x8a\x01\x01u.",
    b"\x80\x02ccollections\nOrderedDict\n]q\x01(]q\x02(U\x01aK\x00e]q\x03(U\x01bK\x01ee\x85R.",
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R"
    b"q\x03(K\x01K\x02\x85cnumpy\ndtype\nq\x04U\x02i2K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff"
    b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x00\x01\x00tb.",
    b"\x80\x02(cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x04\x00\x00\x00\x00\x86RK\x01l.",
)


@pytest.mark.parametrize("written", PYTHON_2, ids=range(len(PYTHON_2)))
def test_pickles_of_python_2_are_read(tmp_path, written):
    save(tmp_path, None)
    (tmp_path / "labels.pkl").write_bytes(written)
    assert findings(index(tmp_path)) == AB


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"a": 2, "b": 1}, "'labels.pkl' says of 'a.png': the label 2, of which nobody can say"),
        ({"a": 0.5, "b": 1}, "label 0.5"),
        ({"a": "-1", "b": 1}, "label '-1'"),
        ({"a": "nan", "b": 1}, "label 'nan'"),
        ({"a": None, "b": 1}, "label None"),
        ({"a": " ", "b": 1}, "label ' '"),
        ({"a": [0.3, 0.7], "b": 1}, r"label \[0\.3, 0\.7\]"),
        ({"a": [[[0]]], "b": 1}, "label"),
        ({"a": int, "b": 1}, "label <class 'int'>"),
        ({"a": 0, "c": 1}, "labels for 1 films that are not there: 'c'"),
        ({1: 0}, "not there: 1"),
        ({"person1637_virus_2834_with_a_long_name.jpeg": 0}, "2834_with_a_long_name"),
        ({"a": 0, "a.png": 0}, r"two labels for a\.png"),
        ([("a", 0), ("a", 1)], r"two labels for a\.png"),
        ({"names": ["a", "b"], "labels": [0]}, "2 names but 1 labels"),
        ([0, 1, 1], "holds 3 labels without names, but there are 2 films"),
        ([], "holds 0 labels without names"),
        ({0, 1}, "Expected a dictionary of names and labels"),
        (np.array(3), "Expected a dictionary"),
        (7, "labels.pkl' holds 7"),
        ({}, "gives no film a label"),
    ],
    ids=str,
)
def test_labels_that_can_be_read_in_two_ways_are_refused(tmp_path, content, told):
    put(save(tmp_path, content), "train/x.txt")
    with pytest.raises(DataError, match=told):
        index(tmp_path)


def test_a_film_beside_a_folder_is_not_one_in_it(tmp_path):
    put(save(tmp_path, {"test/a.png": 0}), "test/c.png")
    with pytest.raises(DataError, match=r"not there: 'test/a\.png'"):
        index(tmp_path)


# --- pickled-labels: what a pickle may not do ---


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Call(os.system, "touch never"), "system"),
        (Call(eval, "1"), "builtins.eval"),
        (Call(exec, "1"), "builtins.exec"),
        (Call(getattr, "a", "upper"), "builtins.getattr"),
        (Call(__import__, "os"), "builtins.__import__"),
        (Call(open, "/etc/passwd"), "io.open"),
        (Call(np.load, "x.npy"), "load"),
        (Call(np.fromfile, "x"), "fromfile"),
        (Call(np.memmap, "x"), "memmap"),
        ({"a": Call(dict.fromkeys, "ab")}, "getattr"),
        (np.array([Call(eval, "1")], object), "builtins.eval"),
        (Film("a", (), "a", None, ""), "cxr_core.datasets.films.Film"),
        (np.ma.array([1, 0]), "numpy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pickle_that_could_run_code_is_not_opened(tmp_path, content, named):
    save(tmp_path, content)
    with pytest.raises(DataError, match="could run code, so it was not opened") as told:
        index(tmp_path)
    assert named in str(told.value) and "labels.pkl" in str(told.value)


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"not a pickle",
        b"\x80\x04",
        pickle.dumps({"a": 0})[:-4],
        b"P7\n.",  # something that only its writer knows
        b"\x80\x04\x8c\x08builtins\x8c\x0ddict.fromkeys\x93.",
        b"\x80\x02\x82\x01.",  # an extension code
        b"cnumpy\nndarray\n(I1000000000\ntR.",
        pickle.dumps(Call(bytes, 10**13)),
        pickle.dumps(Call(bytearray, 10**13)),
        pickle.dumps(np.zeros(2, "M8[s]")),
        pickle.dumps(np.zeros(2, [("a", "i4")])),
        pickle.dumps(np.array(["ab"])).replace(b"a\0\0\0", b"a\0\0\xff"),
        pickle.dumps(np.zeros(3)).replace(b"K\x03\x85", b"K\x07\x85"),
        pickle.dumps(np.zeros(3, object)).replace(b"K\x03\x85", b"K\x07\x85"),
        b"\x80\x02" + b"]" * 200 + b"a" * 300 + b".",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00ab.",
        b"cnumpy\ndtype\n(N(dVcode\nI1\nstb.",
    ],
    ids=range(18),
)
def test_a_damaged_pickle_is_a_sentence(tmp_path, written):
    save(tmp_path, None)
    (tmp_path / "labels.pkl").write_bytes(written)
    with pytest.raises(DataError, match=r"labels\.pkl"):
        index(tmp_path)


@pytest.mark.parametrize(
    "written",
    [b"\x80\x04Nr\xff\xff\xff\xff0.", b"\x80\x05\x96\0\0\0\0\x08\0\0\0ab."],
    ids=["memo", "bytearray"],
)
def test_a_pickle_does_not_take_the_memory_it_names(tmp_path, written):
    (tmp_path / "labels.pkl").write_bytes(written)
    start = time.monotonic()
    with pytest.raises(DataError, match="cannot be read as a pickle"):
        load_plain(tmp_path / "labels.pkl")
    assert time.monotonic() - start < 1


def test_an_array_of_nothing_has_no_rows_however_many_it_claims(tmp_path):
    (tmp_path / "a.png").write_bytes(b"film")
    claimed = np.empty((0, 2), "U1")
    written = pickle.dumps({"a": 1, "more": claimed}, protocol=2)
    (tmp_path / "labels.pkl").write_bytes(written)
    array = load_plain(tmp_path / "labels.pkl")["more"]
    assert array.values.shape == (0,)


def test_a_pickle_sets_the_state_of_nothing_but_its_own_arrays(tmp_path):
    path = tmp_path / "labels.pkl"
    # The maker of dtypes, then a dictionary, then BUILD.
    path.write_bytes(b"cnumpy\ndtype\n}(V__doc__\nVevil\nub.")
    with pytest.raises(DataError, match=r"the state of .* cannot be set"):
        load_plain(path)


def test_a_pickle_of_pixels_is_told_to_be_too_large(tmp_path):
    save(tmp_path, np.zeros(5 * 2**20))
    with pytest.raises(DataError, match=r"'labels\.pkl' has 40 MB"):
        index(tmp_path)


# --- pickled-labels: which folder a pickle labels ---


def labels(root, **files):
    for name, content in files.items():
        (root / name).with_suffix(".pickle").write_bytes(pickle.dumps(content))
    return root


def test_each_pickle_labels_the_folder_that_it_names(tmp_path):
    put(tmp_path, "train/a.png", "train/b.png", "test/a.png", "val/deep/c.png")
    labels(tmp_path, train_labels={"a": 0, "train/b.png": 1}, test=[1], labels_validation=[0])
    dataset = index(tmp_path)
    assert {f.file: (f.findings, f.split) for f in dataset.films} == {
        "test/a.png": (("Abnormal",), "test"),
        "train/a.png": ((), "train"),
        "train/b.png": (("Abnormal",), "train"),
        "val/deep/c.png": ((), "validation"),
    }
    assert dataset.classes == ("Abnormal", "Normal") and overlap(dataset.films) == []


def test_films_of_another_folder_are_not_labelled_by_accident(tmp_path):
    labels(put(tmp_path, "train/a.png", "test/a.png"), train={"test/a.png": 1}, test=[0])
    with pytest.raises(DataError, match="not there"):
        index(tmp_path)


def test_films_without_a_label_are_left_out_and_counted(tmp_path):
    put(tmp_path, "train/a.png", *(f"test/{k}.png" for k in range(5)))
    dataset = index(labels(tmp_path, train_labels={"a": 0}))
    assert only(dataset).split == "train"
    assert dataset.notes == (
        "5 films without a label were left out: test/0.png, test/1.png, test/2.png and 2 more.",
    )


def test_a_lone_pickle_labels_all_films(tmp_path):
    put(tmp_path, "site_1/a.png", "site_2/b.png")
    dataset = index(labels(tmp_path, labels={"a": 0, "site_2/b": 1}))
    assert findings(dataset) == {"site_1/a.png": (), "site_2/b.png": ("Abnormal",)}
    assert {film.split for film in dataset.films} == {None}


def test_a_name_of_several_words_is_found_in_a_pickle_s_name(tmp_path):
    put(tmp_path, "site_1/a.png", "site_2/a.png")
    dataset = index(labels(tmp_path, **{"site-1_labels": [0], "labels_site_2": [1]}))
    assert [film.findings for film in dataset.films] == [(), ("Abnormal",)]


def test_patients_are_known_by_the_names_of_the_children_s_films(tmp_path):
    put(tmp_path, "person1_virus_1.jpeg", "person1_virus_2.jpeg")
    assert {film.patient for film in index(labels(tmp_path, y=[1, 1])).films} == {"person1_virus"}


@pytest.mark.parametrize(
    ("films", "pickles", "told"),
    [
        (("a/x.png", "b/x.png"), {"labels": {"x": 1}}, r"'x', which may be a/x\.png, b/x\.png"),
        (("x.png", "x.jpg"), {"labels": {"x": 1}}, r"may be x\.jpg, x\.png"),
        (("a/x.png", "b/x.png"), {"a_b": [0]}, "may label the films in a or in b"),
        (("a/x.png",), {"a": [0], "a_too": [0]}, "both label the films in a"),
        (("a/x.png",), {"a": [0], "odd": [0]}, "'odd.pickle' does not say"),
        (("train/a.png", "b.png"), {"labels": [0, 1]}, "'train/a.png' belongs to a split"),
        ((), {"labels": [0, 1]}, "lacks films"),
    ],
)
def test_labels_of_nobody_knows_which_film_are_refused(tmp_path, films, pickles, told):
    labels(put(tmp_path, *films), **pickles)
    with pytest.raises(DataError, match=told):
        index(tmp_path)


# --- nih-csv ---

TITLES = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
NORMAL = "00000001_000.png,No Finding,0,1,057Y,M,PA,2682,2749,0.143,0.143,"
ILL = "00000002_000.png,Mass|Effusion,0,2,414,F,AP,2682,2749,0.143,0.143,"


def nih(root, *rows, titles=TITLES, images=("images/00000001_000.png",)):
    put(root, *images)
    (root / "Data_Entry_2017.csv").write_text("\ufeff" + "\r\n".join([titles, *rows]) + "\r\n")
    return root


@pytest.mark.parametrize(
    "place", ["images/", "images_001/", "images_001/images/", ""], ids=lambda name: name or "root"
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_nih_films_are_found_where_archives_put_them(tmp_path, place, suffix):
    file = f"{place}00000001_000{suffix}"
    assert only(index(nih(tmp_path, NORMAL, images=[file]))).file == file


def test_nih_rows_say_who_and_what(tmp_path):
    images = ["images/00000001_000.png", "images_002/images/00000002_000.jpg"]
    dataset = index(nih(tmp_path, NORMAL, ILL, images=images))
    first, second = dataset.films
    assert (first.findings, first.patient, first.age_years) == ((), "1", 57.0)
    assert (first.view, first.sex, first.split, first.source) == ("PA", "M", None, None)
    assert (second.findings, second.age_years, second.sex) == (("Mass", "Effusion"), None, "F")
    assert dataset.classes == ("Effusion", "Mass", "No Finding")
    assert dataset.notes == ("1 ages above 130 years were taken as unknown.",)


def test_both_headers_of_the_nih_are_read(tmp_path):
    titles = TITLES.replace("Gender", "Sex").removesuffix(",")
    assert only(index(nih(tmp_path, NORMAL.removesuffix(","), titles=titles))).sex == "M"


def test_a_part_of_the_nih_films_is_enough_and_counted(tmp_path):
    images = ["images/00000001_000.png", "images/extra.png"]
    assert index(nih(tmp_path, NORMAL, ILL, images=images)).notes == (
        "1 of the 2 films of Data_Entry_2017.csv are not in the folder.",
        "1 films that Data_Entry_2017.csv does not list were left out: extra.png.",
    )


def test_nih_boxes_sources_and_splits_are_added(tmp_path):
    nih(tmp_path, NORMAL, ILL, images=["00000001_000.png", "00000002_000.png"])
    (tmp_path / "source.csv").write_text("Image Index,source\n00000001_000.png,B\nother.png,A\n")
    (tmp_path / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000002_000.png,Infiltrate,256,512,128,64,,,\n"
        "00000002_000.png,Mass,0,0,1024,1024,,,\nother.png,Mass,1,2,3,4,,,\n"
    )
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\nother.png")
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    dataset = index(tmp_path)
    first, second = dataset.films
    assert (first.source, second.source) == ("B", None)
    assert (first.split, second.split) == ("train", "test")
    boxes = (Box("Infiltration", 0.25, 0.5, 0.125, 0.0625), Box("Mass", 0, 0, 1, 1))
    assert (first.boxes, second.boxes) == ((), boxes)
    assert "1 boxes of BBox_List_2017.csv are of films not in the folder." in dataset.notes
    told = summarise(dataset)
    assert told["sources"] == {"(unknown)": 1, "B": 1} and told["boxes"] == 1
    (tmp_path / "train_val_list.txt").unlink()
    dataset = index(tmp_path)
    assert {film.split for film in dataset.films} == {None}
    assert any("without its other half" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (NORMAL.replace("No Finding", "Cold"), "holds 'Cold' in the column 'Finding Labels'"),
        (NORMAL.replace("No Finding", "No Finding|Mass"), "'No Finding' alone"),
        (NORMAL.replace("No Finding", "Mass|Mass"), "each once"),
        (NORMAL.replace("057Y", "old"), "Line 2 .* 'old' in the column 'Patient Age'"),
        (NORMAL.replace(",M,", ",X,"), "Allowed are F, M"),
        (NORMAL.replace(",PA,", ",LL,"), "Allowed are PA, AP"),
        (NORMAL.replace(",1,057Y", ",,057Y"), "in the column 'Patient ID'"),
        (f"{NORMAL}\n{NORMAL}", "Line 2 has it too"),
        ("00000001_000.png,No Finding", "has 2 cells, but there are 11"),
        (NORMAL.replace("00000001", "00000009"), "None of the 1 films"),
        ("", "lists no films"),
    ],
)
def test_an_nih_table_that_is_not_as_published_is_refused(tmp_path, row, told):
    nih(tmp_path, row)
    with pytest.raises(DataError, match=told):
        index(tmp_path)


def test_nih_files_that_contradict_are_refused(tmp_path):
    nih(tmp_path, NORMAL)
    for name in ("train_val_list.txt", "test_list.txt"):
        (tmp_path / name).write_text("00000001_000.png\n")
    with pytest.raises(DataError, match="both list 00000001_000"):
        index(tmp_path)
    (tmp_path / "test_list.txt").unlink()
    for box in (
        "a.png,Mass,1,2,3",
        "a.png,Mass,1,2,3,nan",
        "a.png,Mass,900,0,200,5",
        "a,b,1,1,0,1",
    ):
        (tmp_path / "BBox_List_2017.csv").write_text(f"titles\n{box}\n")
        with pytest.raises(DataError, match=r"Line 2 of 'BBox_List_2017\.csv'"):
            index(tmp_path)
    put(tmp_path, "images_002/00000001_000.jpg")
    with pytest.raises(DataError, match="holds the film 00000001_000 twice"):
        index(tmp_path)
    put(tmp_path, "Data_Entry_2017_v2020.csv")
    with pytest.raises(DataError, match="has 2 tables"):
        index(tmp_path)


def test_an_nih_table_without_its_columns_names_them(tmp_path):
    nih(tmp_path, "00000001_000.png,Mass", titles="Image Index,Finding Labels")
    with pytest.raises(DataError, match="no column Patient ID, Patient Age"):
        index(tmp_path)


# --- csv ---


def table(root, text, *films):
    put(root, *(films or ("a.png", "b.png")))
    (root / "films.csv").write_text(text)
    return root


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,0\nb.png,1\n",
        "File Name,Finding\na.png,No Finding\nb.png,abnormal\n",
        "image,class\n./a.png,normal\nx/../b.png,Abnormal\n",
        "filename,Abnormal\na.png,0\nb.png,1.0\n",
        ",path,Normal,abnormal\n0,a.png,1,0\n1,b.png,0,1\n",
    ],
)
def test_a_table_of_paths_and_labels_is_read(tmp_path, text):
    assert findings(index(table(tmp_path, text))) == AB


def test_several_labels_of_a_film_are_read(tmp_path):
    text = "path,labels\na.png,Mass | Effusion\nb.png,Effusion;Oedema\n"
    dataset = index(table(tmp_path, text))
    assert findings(dataset) == {"a.png": ("Mass", "Effusion"), "b.png": ("Effusion", "Oedema")}
    assert dataset.classes == ("Effusion", "Mass", "Oedema")
    dataset = index(table(tmp_path, "path,Mass,Effusion,Hernia\na.png,1,1,0\nb.png,0,0,0\n"))
    assert findings(dataset) == {"a.png": ("Mass", "Effusion"), "b.png": ()}
    assert dataset.classes == ("Effusion", "Hernia", "Mass")


def test_the_facts_of_a_film_are_read(tmp_path):
    text = (
        "path,label,patient_id,split,view,Patient Age,sex,source,remark\n"
        "a.png,0,p1,train,PA,009M,female,X,fine\nb.png,1,p2,Val,,300,,,\n"
    )
    dataset = index(table(tmp_path, text))
    first, second = dataset.films
    assert (first.patient, first.split, first.view, first.sex) == ("p1", "train", "PA", "F")
    assert (first.age_years, first.source) == (0.75, "X")
    assert (second.patient, second.split, second.view, second.sex) == (
        "p2",
        "validation",
        None,
        None,
    )
    assert (second.age_years, second.source) == (None, None)
    assert dataset.notes == (
        "Columns that were not read: remark.",
        "1 ages above 130 years were taken as unknown.",
    )


def test_folders_of_splits_count_when_all_films_lie_in_them(tmp_path):
    text = "path,label\ntrain/a.png,0\ntest/b.png,1\n"
    dataset = index(table(tmp_path, text, "train/a.png", "test/b.png"))
    assert [film.split for film in dataset.films] == ["test", "train"]
    dataset = index(table(tmp_path, text + "c.png,1\n", "c.png"))
    assert {film.split for film in dataset.films} == {None}


def test_films_that_the_table_does_not_list_are_noted(tmp_path):
    dataset = index(table(tmp_path, "path,label\na.png,0\n"))
    assert dataset.notes == ("1 films that films.csv does not list were left out: b.png.",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,Mass\na.png,0\nb.png,-1\n", "Line 3 .* '-1' in the column 'Mass'. -1 means uncert"),
        ("path,Mass\na.png,\n", "Line 2 .* holds '' in the column 'Mass'. Blank may mean"),
        ("path,Mass,width\na.png,1,512\n", "'512' in the column 'width'. .* must hold 0 or 1"),
        ("path,Mass,Normal\na.png,1,1\n", "'Normal'. But Mass is 1 too"),
        ("path,Mass,Normal\na.png,0,0\n", "no other column is 1"),
        ("path,label\na.png,\n", "Line 2 .* holds '' in the column 'label'"),
        ("path,label\na.png,2\n", "holds '2' .* nobody can say"),
        ("path,label\na.png,Mass|\n", "nobody can say"),
        ("path,label\na.png,normal|Mass\n", "normal or has findings, not both"),
        ("path,label\na.png,0\n./a.png,1\n", "Line 2 has it too"),
        ("path,label\na.png,0\nc.png,1\n", r"lists 1 of 2 films that are not there: c\.png"),
        ("path,label\n../a.png,0\n", "Paths must stay in the folder"),
        ("path,label\nx/../../a.png,0\n", "Paths must stay"),
        ("path,label\n/etc/passwd,0\n", "Paths must stay"),
        ("path,label\nC:\\films\\a.png,0\n", "Paths must stay"),
        ("path,label\n,0\n", "holds '' in the column 'path'"),
        ("path,label,split\na.png,0,dev\n", "Allowed are train, test, val, validation"),
        ("path,label,split\na.png,0,\n", "Allowed are train"),
        ("path,label,patient\na.png,0,\n", "column 'patient'. Fill it in"),
        ("path,file,label\na.png,a.png,0\n", "columns path and file, and either may be the path"),
        ("path,label,label\na.png,0,0\n", "two columns named label"),
        ("path,label,finding\na.png,0,0\n", "either may be the labels"),
        ("name,label\na.png,0\n", "no column for the films: its columns are name, label"),
        ("path;label\na.png;0\n", "with commas between columns"),
        ("path,age\na.png,5\n", "no labels: its columns are path, age"),
        ("path,label\na.png\n", "has 1 cells, but there are 2 titles"),
        ("path,label\na.png,0,1\n", "has 3 cells"),
        ("path,label\n", "lists no films"),
        ('path,label\n"a.png,0\n', "cannot be read as a CSV"),
        ("", "lists no films"),
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused(tmp_path, text, told):
    with pytest.raises(DataError, match=told):
        index(table(tmp_path, text))


def test_a_table_that_is_no_text_and_two_tables_are_refused(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "films.csv").write_bytes(b"path,label\n\xff\xfe\n")
    with pytest.raises(DataError, match="UTF-8"):
        index(tmp_path)
    (tmp_path / "more.csv").write_text("path,label\na.png,0\n")
    with pytest.raises(DataError, match=r"has 2 CSV files \(films\.csv, more\.csv\)"):
        index(tmp_path, "csv")


# --- counts ---


class Decoded:
    unreadable = (("a.png", "It is damaged."),)
    sizes = {(k, 100): k for k in range(1, 31)}  # noqa: RUF012 - a value, never changed


def test_an_inspection_is_counted(tmp_path):
    dataset = index(put(tmp_path, "A/a.png"))
    plain, decoded = summarise(dataset), summarise(dataset, Decoded())
    assert plain["unreadable"] is None and plain["sizes"] is None
    assert (plain["sources"], plain["boxes"], plain["notes"]) == ({}, 0, [])
    assert decoded["unreadable"] == [{"file": "a.png", "reason": "It is damaged."}]
    assert decoded["sizes"][:2] == [[30, 100, 30], [29, 100, 29]] and len(decoded["sizes"]) == 20
    json.dumps(decoded, allow_nan=False)


def test_findings_that_occur_together_are_counted():
    held = [("A", "B"), ("B",), (), ("B", "C"), ("A", "B", "C")]
    names, matrix = cooccurrence(Film(str(k), h, str(k), None, "") for k, h in enumerate(held))
    assert names == ("B", "A", "C")
    assert matrix.tolist() == [[4, 2, 2], [2, 2, 1], [2, 1, 2]] and matrix.dtype == np.int64
    for films in ([], [Film("a", (), "a", None, "")]):
        names, matrix = cooccurrence(films)
        assert names == () and matrix.shape == (0, 0)


# --- the command ---


def run(capsys, *arguments):
    status = main(["index", *map(str, arguments)])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_command_tells_what_cannot_be_read(phantom_folder, tmp_path, capsys):
    film = next((phantom_folder / "test" / "NORMAL").iterdir())
    put(tmp_path, *(f"A/{k}.png" for k in range(7)))
    (tmp_path / "films.csv").write_text(
        "path,label\n" + "".join(f"A/{k}.png,0\n" for k in range(7)) + "B/good.jpeg,1\n"
    )
    (tmp_path / "B").mkdir()
    (tmp_path / "B" / "good.jpeg").write_bytes(film.read_bytes())
    status, out, _ = run(capsys, tmp_path, "--json")
    told = json.loads(out)
    assert status == 0 and told["layout"] == "csv"
    assert [item["file"] for item in told["unreadable"]] == [f"A/{k}.png" for k in range(7)]
    ((width, height, count),) = told["sizes"]
    assert count == 1
    out = run(capsys, tmp_path)[1]
    assert "Unreadable films: 7" in out and "  A/4.png: " in out and "  A/5.png: " not in out
    assert "and 2 more" in out and f"{width} x {height}: 1 films" in out and "Notes: none" in out
    assert json.loads(run(capsys, tmp_path, "--json", "--no-decode")[1])["unreadable"] is None
    assert run(capsys, tmp_path, "--layout", "csvs")[0] == 2


# --- the real films ---


def test_the_nih_films_are_as_described(data):
    dataset = index(data / "nih_chestxray14")
    assert dataset.layout == "nih-csv" and len(dataset.films) == 1309
    assert sum((film.age_years or 99) < 18 for film in dataset.films) == 94
    assert sum(len(film.boxes) for film in dataset.films) == 48
    assert len(dataset.classes) == 15 and dataset.notes == ()
    told = summarise(dataset)
    assert told["boxes"] == 43 and set(told["sources"]) == {"A", "B", "C"}
    names, matrix = cooccurrence(dataset.films)
    assert names[0] == "Pneumonia" and matrix[0, 0] == 431


@pytest.mark.parametrize(
    ("folder", "films", "classes"),
    [
        ("pediatric_pneumonia", 5840, 2),
        ("pediatric_fullres", 30, 2),
        ("covid_radiography", 4200, 2),
        ("not_chest_xray", 246, 6),
    ],
)
def test_folders_of_real_films_are_found_out(data, folder, films, classes):
    dataset = index(data / folder)
    assert isinstance(dataset, DatasetIndex) and dataset.layout == "class-folders"
    assert (len(dataset.films), len(dataset.classes)) == (films, classes)


@pytest.mark.parametrize(("folder", "told"), [("dicom", "10 films but"), ("weights", "no films")])
def test_folders_that_say_nothing_of_films_are_a_sentence(data, folder, told, capsys):
    status, out, err = run(capsys, data / folder)
    assert (status, out, len(err.splitlines())) == (2, "", 1) and told in err
