"""The contest with other libraries: its arithmetic, and how its processes are asked."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import Keras, Measured


def measured(seconds: float, operations: float = 2e9, **changes: float) -> Measured:
    tasks = dict.fromkeys(peers.CONTEST, seconds)
    found = Measured(
        tasks, seconds, 1.5, (100.0, 700.0, 800.0), operations, 4e6, 500.0, 1000.0, 2000.0
    )
    return found._replace(**changes)


def cells(table: str, what: str) -> list[str]:
    (row,) = (line for line in table.splitlines() if line.startswith(f"| {what}"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_the_table_compares_with_ours_and_with_the_machine():
    found = {"Ours": measured(0.05), "Keras": measured(0.2, first=6.0, shortest=0.1)}
    table = peers._table(found, (1e11, 1e10), 3.0)

    assert cells(table, "One answer, from") == ["50.0", "200.0 (4.0)"]
    assert cells(table, "Films a second") == ["320.0", "80.0 (0.2)"]
    assert cells(table, "Start of the process") == ["1.50", "6.00 (4.0)"]
    # 2e9 operations at 1e11 a second are 20 ms, 4e6 bytes at 1e10 a second only 0.4.
    assert cells(table, "... its shortest time") == ["2.50", "5.00 (2.0)"]


def test_memory_is_the_limit_where_it_takes_longer():
    found = {"Ours": measured(0.05, operations=1e6, bytes=1e8), "Keras": measured(0.05)}

    assert cells(peers._table(found, (1e11, 1e10), 3.0), "... its shortest")[0] == "5.00"


def test_operations_are_two_for_each_weight_at_each_of_its_places():
    keras = pytest.importorskip("keras")
    layers = keras.layers
    contender = Keras.__new__(Keras)
    contender._network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same"),  # 36 weights at 64 places
            layers.DepthwiseConv2D(3, strides=2, padding="same"),  # 36 at 16
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),  # 8, once
        ]
    )
    contender._film = contender._network(keras.ops.ones((1, 8, 8, 1))).numpy()

    operations, read = contender.size()

    assert operations == 2 * (36 * 64 + 36 * 16 + 8)
    assert read == 4 * (36 + 4 + 36 + 4 + 8 + 2) + contender._film.nbytes


def test_a_package_takes_room_for_what_it_needs_too():
    alone = sum(
        Path(str(one.locate())).stat().st_size
        for one in peers.distribution("sqlalchemy").files or ()
        if one.suffix != ".pyc"
    )

    answers, app, everything = (peers.installed(names) for names in peers.Ours.packages(None))
    assert 0 < alone / 1e6 < peers.installed(["sqlalchemy"]) < answers < app < everything


def test_a_contender_is_asked_through_a_pipe_and_says_when_it_cannot(tmp_path):
    film = tmp_path / "film.jpg"
    film.touch()
    with ExitStack() as stack:
        machine = peers._Process(Path(sys.executable), "Machine", film, stack)
        seconds, since, memory = machine.ask("multiply")
        assert 0 < seconds < since and memory > 10
        with pytest.raises(RuntimeError, match="Machine ended at 'sing'"):
            machine.ask("sing")


def test_what_it_runs_elsewhere_needs_nothing_of_this_environment():
    code = f"import runpy; runpy.run_path({peers.__file__!r})"
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=60)
