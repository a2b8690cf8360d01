"""Bundles are made aside and published in one rename; two commands never undo each other."""

import errno
import shutil
from pathlib import Path

import pytest

from cxr_core.cards import load_card
from cxr_core.errors import ArgumentError, ModelError, UnknownName
from cxr_core.publishing import changing, made, renewed
from cxr_core.release import recalibrate
from cxr_core.repeatability import measure


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_models, tmp_path / "models")
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_bundle_appears_whole_and_can_be_read_by_others(tmp_path):
    root = tmp_path / "models"
    with made("new", root) as aside:
        aside.mkdir()
        (aside / "card.json").write_text("made")
        assert not (root / "new").exists()
    assert names(root) == ["new"]
    (root / "plain").mkdir()
    assert (root / "new").stat().st_mode == (root / "plain").stat().st_mode
    with pytest.raises(ArgumentError, match="lower-case"), made("Made Up", root):
        pass


def test_a_bundle_registered_meanwhile_stays(tmp_path):
    with pytest.raises(ArgumentError, match="'new' was registered meanwhile"):
        with made("new", tmp_path) as aside:
            aside.mkdir()
            (aside / "card.json").write_text("later")
            with made("new", tmp_path) as other:
                other.mkdir()
                (other / "card.json").write_text("sooner")
    assert names(tmp_path) == ["new"]
    assert (tmp_path / "new" / "card.json").read_text() == "sooner"


def test_a_renewed_bundle_takes_the_place_of_the_old_one(models):
    with renewed("tiny") as aside:
        (aside / "note.txt").write_text("new")
        assert not (models / "tiny" / "note.txt").exists()
    assert (models / "tiny" / "note.txt").read_text() == "new"
    assert names(models) == ["tiny"]
    with pytest.raises(ValueError, match="stopped"), renewed("tiny") as aside:
        (aside / "note.txt").write_text("half")
        raise ValueError("stopped")
    assert (models / "tiny" / "note.txt").read_text() == "new"
    assert names(models) == ["tiny"]


def test_a_rename_that_fails_leaves_the_old_bundle_in_its_place(models):
    with pytest.raises(ModelError, match="'tiny' cannot be written"), renewed("tiny") as aside:
        shutil.rmtree(aside)
    assert load_card("tiny").name == "tiny"
    assert names(models) == ["tiny"]


def test_of_two_commands_on_one_model_the_second_is_told(models, phantom_folder):
    before = load_card("tiny")
    with changing("tiny"):
        for command in (lambda: recalibrate("tiny"), lambda: measure("tiny", phantom_folder)):
            with pytest.raises(ModelError, match="Another command is changing 'tiny'"):
                command()
    assert load_card("tiny") == before
    with changing("tiny"), renewed("tiny"):
        pass
    with changing("tiny"):  # and the lock went with the block
        pass
    with pytest.raises(UnknownName), changing("none"):
        pass


def test_what_was_replaced_while_it_was_being_locked_is_not_changed(models, monkeypatch):
    """The other command is done between our look for the folder and our lock on it."""

    def late(descriptor, taken):
        with renewed("tiny"):
            pass

    monkeypatch.setattr("cxr_core.publishing.claim", late)
    with pytest.raises(ModelError, match="Another command is changing 'tiny'"), changing("tiny"):
        pass


@pytest.mark.parametrize("kind", [renewed, made])
def test_a_disk_that_takes_nothing_is_told_in_a_sentence(models, monkeypatch, kind):
    def full(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system", "somewhere")

    monkeypatch.setattr("cxr_core.publishing.tempfile.mkdtemp", full)
    with pytest.raises(ModelError, match=r"cannot be written to .*\(Read-only file system\)"):
        with kind("tiny"):
            pass
    assert names(models) == ["tiny"]


def test_a_copy_that_breaks_off_is_told_and_cleaned_up(models, monkeypatch):
    def breaks(source, target):
        target.mkdir()
        raise shutil.Error([("one", "other", "No space left on device")])

    monkeypatch.setattr("cxr_core.publishing.shutil.copytree", breaks)
    with pytest.raises(ModelError, match="not all of it was taken"), renewed("tiny"):
        pass
    assert names(models) == ["tiny"]
