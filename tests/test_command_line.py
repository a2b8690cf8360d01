"""The command line that scripts depend on: what goes to stdout, to stderr, and the status."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cxr_core.__main__ import main
from cxr_core.phantom import png_bytes, sample_film

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(capsys, tiny_models, monkeypatch):
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    (folder / "b").mkdir()
    film = png_bytes(sample_film())
    (folder / "b" / "good-without-extension").write_bytes(film)
    (folder / "a.png").write_bytes(b"not a film")
    (folder / "c.png").write_bytes(film)
    (folder / ".hidden.png").write_bytes(film)
    return folder


def test_help_answers_without_heavy_imports():
    code = (
        "import sys, cxr_core.__main__ as m\n"
        "try:\n    m.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'matplotlib', 'streamlit', 'numpy'}\n"
        "sys.exit(sorted(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("list", "predict", "explain", "index", "train", "evaluate"):
        assert command in done.stdout


@pytest.mark.slow
def test_predict_prints_one_object_per_film_in_order_and_nothing_else(run, films):
    status, out, err = run("predict", "--model", "tiny", films, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [row["file"] for row in rows] == [
        str(films / name) for name in ("a.png", "b/good-without-extension", "c.png")
    ]
    assert [row["ok"] for row in rows] == [False, True, True]
    assert set(rows[0]) == {"file", "ok", "error", "code"} and rows[0]["code"] == "unreadable"
    assert set(rows[1]) == {"file", "ok", "model", "predictions", "gate"}
    (answer,), (again,) = rows[1]["predictions"], rows[2]["predictions"]
    assert answer["probability"] == pytest.approx(again["probability"], abs=1e-6)
    assert set(answer) == {"label", "probability", "operating_point", "flag", "cannot_tell"}
    assert answer["flag"] == (answer["probability"] >= answer["operating_point"])
    assert rows[1]["gate"]["verdict"] == "caution"  # no age in a PNG
    assert set(rows[1]["gate"]["checks"][0]) == {
        "name",
        "value",
        "limit",
        "verdict",
        "reason",
        "mend",
    }
    assert "Films" in err


@pytest.mark.slow
def test_a_refused_film_has_no_probabilities_unless_asked(run, tmp_path):
    (tmp_path / "photo.png").write_bytes(png_bytes(sample_film()))
    with Image.open(tmp_path / "photo.png") as grey:
        colour = grey.convert("RGB")
    colour.paste((255, 0, 0), (0, 0, 500, 900))
    colour.save(tmp_path / "photo.png")
    refused = json.loads(run("predict", "--model", "tiny", tmp_path / "photo.png", "--json")[1])
    assert refused["ok"] is True and refused["predictions"] == []
    assert refused["gate"]["verdict"] == "refuse"
    told = run("predict", "--model", "tiny", tmp_path / "photo.png", "--json", "--no-gate")[1]
    assert len(json.loads(told)["predictions"]) == 1
    assert (
        "refused. The picture is coloured"
        in run("predict", "--model", "tiny", tmp_path / "photo.png")[1]
    )


@pytest.mark.slow
def test_predict_in_words_and_as_a_table(run, films, tmp_path):
    status, out, _ = run("predict", "--model", "tiny", films)
    lines = out.splitlines()
    assert status == 0 and len(lines) == 3
    assert "not read" in lines[0] and "operating point" in lines[1]
    run("predict", "--model", "tiny", films, "--csv", tmp_path / "out.csv")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0].startswith("file,ok,gate,error,probability_Pneumonia")
    assert len(rows) == 4


@pytest.mark.slow
def test_files_are_named_as_the_caller_named_them(run, films, monkeypatch, tmp_path):
    monkeypatch.chdir(films)
    rows = run("predict", "--model", "tiny", "./b", ".", "--json")[1].splitlines()
    named = [json.loads(row)["file"] for row in rows]
    assert named[0] == "./b/good-without-extension"
    assert named[1:] == ["./a.png", "./b/good-without-extension", "./c.png"]
    (tmp_path / "empty").mkdir()
    assert run("predict", "--model", "tiny", tmp_path / "empty")[0] == 2
    assert run("predict", "--model", "tiny", ".", "--csv", tmp_path / "no" / "x.csv")[0] == 2


@pytest.mark.slow
def test_unusable_arguments_end_with_two_and_one_sentence(run, films):
    for arguments, told in (
        (("predict", "--model", "tinny", films), "Did you mean 'tiny'"),
        (("predict", "--model", "tiny", films / "absent"), "no file or folder"),
        (("index", films / "absent"), "no folder"),
        (("train", "no-such-recipe", "--data", films), "no recipe named"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "")
        assert told in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_explain_places_its_peak_on_the_original_film(run, films, tmp_path):
    status, out, _ = run(
        *("explain", "--model", "tiny", "--label", "Pneumonia", "--method"),
        *("integrated-gradients", films / "c.png", "-o", tmp_path / "map.png", "--json"),
    )
    told = json.loads(out)
    assert status == 0
    assert set(told) == {
        *("file", "model", "label", "method", "absence", "baseline", "probability"),
        *("completeness_gap", "relative_gap", "peak", "output"),
    }
    assert (told["absence"], told["baseline"]) == (False, "black")
    height, width = sample_film().pixels.shape
    with Image.open(told["output"]) as drawn:
        assert drawn.size == (width, height)
    x, y = told["peak"]
    assert 0 <= x < width and 0 <= y < height
    assert math.isfinite(told["relative_gap"])
    status, _, err = run(
        *("explain", "--model", "tiny", "--label", "Oedema", films / "c.png"),
        *("-o", tmp_path / "map.png"),
    )
    assert status == 2 and "no label named 'Oedema'" in err
    status, out, err = run(
        *("explain", "--model", "tiny", "--label", "Pneumonia", "--baseline", "blurred"),
        *(films / "c.png", "-o", tmp_path / "none.png"),
    )
    assert (status, out) == (2, "") and not (tmp_path / "none.png").exists()
    assert "'blurred' came with 'grad-cam'" in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_list_and_evaluate_agree(run, phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_CACHE", str(tmp_path))
    assert "tiny" in run("list")[1]
    status, out, _ = run("evaluate", "--model", "tiny", "--data", phantom_folder, "--json")
    told = json.loads(out)
    assert status == 0
    assert (told["model"], told["split"]) == ("tiny", "test")
    label = told["labels"]["Pneumonia"]
    (tn, fp), (fn, tp) = label["confusion"]
    assert tn + fp + fn + tp == told["n"] == label["n"]
    wanted = "n positives operating_point confusion sensitivity specificity ppv npv f1 accuracy"
    wanted += " balanced_accuracy auroc auroc_ci auprc ece brier"
    assert set(wanted.split()) <= set(label)
    from cxr_core.cards import load_evaluation

    assert load_evaluation("tiny").to_json()["macro"] == told["macro"]
    assert "tn" in run("evaluate", "--model", "tiny", "--data", phantom_folder)[1]
    status, _, err = run("evaluate", "--model", "tiny", "--data", phantom_folder, "--split", "x")
    assert status == 2 and "it has: test, train" in err


@pytest.fixture
def two_records(tmp_path, monkeypatch):
    """Two models of ours without their networks; the record of the first can be damaged."""
    for name in ("pediatric-pneumonia", "subset-cnn"):
        (tmp_path / name).mkdir()
        for file in ("card.json", "evaluation.json"):
            shutil.copy(ROOT / "models" / name / file, tmp_path / name / file)
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    return tmp_path / "pediatric-pneumonia" / "evaluation.json"


@pytest.mark.parametrize("damage", ["an earlier version", "no JSON", "absent"])
def test_one_record_that_cannot_be_read_hides_no_other_model(capsys, two_records, damage):
    assert main(["list"]) == 0
    before = capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    if damage == "absent":
        two_records.unlink()
    elif damage == "no JSON":
        two_records.write_text("{")
    else:
        record = json.loads(two_records.read_text())
        del record["micro"]
        two_records.write_text(json.dumps(record))

    assert main(["list", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    error = first.pop("error")
    assert first == whole[0] | {"macro": None, "notes": []}
    assert second == whole[1] and second["macro"]["auroc"] > 0.5
    if damage == "an earlier version":
        assert "'micro'" in error
        assert error.endswith("Restore the file, or train the model again.")

    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pediatric-pneumonia  (") and f"\n  {error}\n" in out
    assert out.endswith(before[before.index("subset-cnn  (") :])


def test_one_damaged_card_hides_no_other_model(capsys, two_records):
    two_records.with_name("card.json").write_text("{")
    assert main(["list"]) == 0
    out, told = capsys.readouterr()
    assert out.startswith("subset-cnn  (")
    assert "pediatric-pneumonia" not in out
    assert told.startswith("cxr_core: 'card.json' of model 'pediatric-pneumonia' cannot be read")
    assert told.count("\n") == 1


def test_index_counts_a_folder(run, phantom_folder):
    told = json.loads(run("index", phantom_folder, "--json")[1])
    assert set(told["splits"]) == {"train", "test"}
    assert told["overlap"] == [] and told["films"] == sum(
        part["films"] for part in told["splits"].values()
    )
    assert "In more than one split: nobody" in run("index", phantom_folder)[1]


@pytest.fixture
def other_scores(tmp_path):
    """Two films scored by another system, of the three that are labelled, as options."""
    (tmp_path / "theirs.csv").write_text("image,prob_Mass\na.png,0.9\nb.png,0.3\n")
    (tmp_path / "truth.csv").write_text("image,Mass\na.jpg,1\nb.jpg,0\nc.jpg,0\n")
    return "--predictions", str(tmp_path / "theirs.csv"), "--labels", str(tmp_path / "truth.csv")


def test_scores_of_another_system_are_evaluated_like_ours(capsys, other_scores):
    assert main(["evaluate", *other_scores, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["split"], told["n"]) == ("theirs", "outside", 2)
    label = told["labels"]["Mass"]
    assert (label["n"], label["positives"], label["operating_point"]) == (2, 1, 0.5)
    assert label["confusion"] == [[1, 0], [0, 1]]
    assert label["auroc"] == told["macro"]["auroc"] == 1.0
    wanted = "n positives operating_point confusion sensitivity specificity ppv npv f1 accuracy"
    wanted += " balanced_accuracy auroc auroc_ci auprc ece brier notes"
    assert set(wanted.split()) <= set(label)
    assert told["notes"][:2] == [
        "Matched by names without folders and extension: 2, such as 'a.png' and 'a.jpg'.",
        "Left out: 1 film of 'truth.csv' without scores in 'theirs.csv' (c.jpg).",
    ]
    assert (
        "No operating point came with these scores: 0.5 is assumed, which is seldom a good one. "
        "Give another with --threshold." in told["notes"]
    )


def test_scores_of_another_system_in_words_at_a_threshold(capsys, other_scores):
    assert main(["evaluate", *other_scores, "--threshold", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "Left out: 1 film of 'truth.csv'" in out and "assumed" not in out
    assert "Mass, 2 films: AUROC 1.000" in out
    assert "  tn 0, fp 1, fn 0, tp 1" in out
    assert "Every film is flagged" in out


@pytest.mark.parametrize(
    "arguments, told",
    [
        ((), "one of the arguments --model --predictions is required"),
        (("--predictions", "P.csv"), "argument --labels: required with argument --predictions"),
        (("--labels", "L.csv"), "one of the arguments --model --predictions is required"),
        (("--model", "tiny"), "argument --data: required with argument --model"),
        (
            ("--predictions", "P.csv", "--labels", "L.csv", "--model", "tiny"),
            "argument --model: not allowed with argument --predictions",
        ),
        (
            ("--predictions", "P.csv", "--labels", "L.csv", "--skip-damaged"),
            "argument --skip-damaged: not allowed with argument --predictions",
        ),
        (
            ("--predictions", "P.csv", "--labels", "L.csv", "--split", "test"),
            "argument --split: not allowed with argument --predictions",
        ),
        (
            ("--model", "tiny", "--data", "films", "--threshold", "0"),
            "argument --threshold: not allowed with argument --model",
        ),
        (("--predictions", "P.csv", "--labels", "L.csv", "--threshold", "low"), "invalid float"),
    ],
)
def test_evaluate_takes_a_model_or_scores_and_what_belongs_to_them(capsys, arguments, told):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert "usage:" in captured.err and told in captured.err


def test_scores_that_cannot_be_used_end_with_two_and_one_sentence(capsys, other_scores, tmp_path):
    (tmp_path / "other.csv").write_text("image,Hernia\na.jpg,1\n")
    for arguments, told in (
        ((*other_scores[:2], "--labels", str(tmp_path / "absent.csv")), "cannot be read"),
        ((*other_scores[:2], "--labels", str(tmp_path / "other.csv")), "No label of 'theirs.csv'"),
        ((*other_scores, "--threshold", "2"), "must lie in [0, 1]"),
    ):
        assert main(["evaluate", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and told in captured.err and len(captured.err.splitlines()) == 1
