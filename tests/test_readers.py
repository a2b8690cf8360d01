"""Several readers at once: each sees the answer on the own film, and leaves nothing behind."""

import asyncio
import json
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import readers
from cxr_core.cards import models_root

pytestmark = pytest.mark.browser


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The shipped model, made to flag nothing: no map is checked."""
    for name in (readers.MODEL, "gate"):
        shutil.copytree(models_root() / name, tmp_path / "models" / name)
    path = tmp_path / "models" / readers.MODEL / "card.json"
    card = json.loads(path.read_text())
    card |= {"operating_points": [1 - 1e-12], "cannot_tell": [None]}
    path.write_text(json.dumps(card))
    return tmp_path / "models"


def test_three_readers_at_once_see_their_own_films_and_leave_none_behind(tmp_path, models):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    films = [sheets for (sheets,) in readers.sheets(3, 1, 400, models)]
    scores = sorted(one.probability for one in films)
    assert np.diff(scores).min() > 3 * readers.SAME, "cross-talk would not be seen"

    async def story(browser):
        pages = [await readers.open_page(browser, server.address) for _ in films]
        taken = await readers.one_round(pages, films)
        assert len(taken) == 3
        with pytest.raises(RuntimeError, match="shows another digest"):
            await readers.verify(pages[0], films[1])
        alive = await asyncio.to_thread(server.alive)
        await readers.remove(pages[0])
        _, left = await asyncio.to_thread(server.alive)
        assert left == 2, "a film that was removed stays in the server"
        await asyncio.gather(*(page.context.close() for page in pages))
        return alive

    with readers.serving(tmp_path, models) as server, readers.alone() as run:
        sessions, held = run(story)
        assert held == 3
        assert sessions == 3
        for _ in range(60):
            if not server.alive()[1]:
                break
            time.sleep(1)
        assert server.alive()[1] == 0, "films of closed tabs stay in the server"


def test_a_score_of_another_film_is_noticed():
    check = partial(readers._check, readers.Sheet("a.jpg", b"", "0", 0.5, "0.50"))
    check(True, "score on screen")
    with pytest.raises(RuntimeError, match=r"The page of a\.jpg shows another score"):
        check(False, "score on screen")
