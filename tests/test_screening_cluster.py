"""The same archive by a Ray cluster on this machine: the same table."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cxr_core.__main__ import main
from cxr_core.errors import ModelError
from cxr_core.phantom import png_bytes, thorax

ROOT = Path(__file__).parents[1]
MODEL = "pediatric-pneumonia"
# A cluster of two processors and little memory, then the command as on any cluster.
ON_RAY = """
import sys, ray
from cxr_core.screening import parts
parts.PART = 4
cluster = ray.init(
    num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False,
    logging_level="error",
)
from cxr_core.__main__ import main
sys.exit(main([*sys.argv[1:], "--engine", "ray", "--address", cluster.address_info["address"]]))
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number in range(11):
        (folder / f"{number:02}").write_bytes(png_bytes(thorax(96, 96, seed=number % 7)))
    (folder / "05").write_bytes(b"not a film")
    return folder


@pytest.mark.slow
def test_ray_writes_the_same_table(films, tmp_path):
    pytest.importorskip(
        "ray.data", reason="Ray is not installed: pip install -r requirements-dev.txt"
    )
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    assert main(["screen", "--model", MODEL, str(films), "-o", str(here)]) == 0
    asked = ["screen", "--model", MODEL, films.name, "-o", str(there)]
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, *asked],
        cwd=films.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("11 films: ") and "11 of 11" in done.stderr
    one, other = pq.read_table(here), pq.read_table(there)
    whole = [str(films.parent / name) for name in other["file"].to_pylist()]
    assert whole == one["file"].to_pylist()  # the folder was named from where the job was given
    rest = [name for name in one.column_names if name not in ("file", "error", "duplicate_of")]
    assert other.select(rest).equals(one.select(rest))
    assert other["duplicate_of"].null_count == one["duplicate_of"].null_count == 7


@pytest.mark.slow
def test_an_address_where_nobody_is(films, tmp_path, capsys):
    pytest.importorskip("ray.data", reason="Ray is not installed")
    with socket.socket() as unheard:  # bound, but nobody listens
        unheard.bind(("127.0.0.1", 0))
        for address in (f"127.0.0.1:{unheard.getsockname()[1]}", "head:port", "nonsense"):
            asked = ["screen", "--model", MODEL, str(films), "-o", str(tmp_path / "out.parquet")]
            assert main([*asked, "--engine", "ray", "--address", address]) == 2
            assert f"No Ray cluster answers at '{address}'" in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_a_node_with_another_model_is_refused(films, tmp_path, monkeypatch):
    from cxr_core.screening.cluster import Screener
    from cxr_core.screening.job import job_of

    job = job_of(MODEL, [str(films)])
    shutil.copytree(ROOT / "models" / MODEL, tmp_path / MODEL)
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    Screener(job, str(tmp_path))
    assert os.environ["OMP_NUM_THREADS"] == "1", "an actor's network works on its own processor"
    card = tmp_path / MODEL / "card.json"
    card.write_text(card.read_text().replace('"version": "', '"version": "9'))
    with pytest.raises(ModelError, match="holds another 'pediatric-pneumonia'"):
        Screener(job, str(tmp_path))


def test_without_ray_it_says_how_to_get_it(films, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    out = ("-o", str(tmp_path / "out.parquet"))

    assert (
        main(["screen", "--model", MODEL, str(films), *out, "--engine", "ray", "--address", "x"])
        == 2
    )

    assert "pip install 'ray[data]" in capsys.readouterr().err
