"""Every screen in a real browser, with the shipped models and films made by code.

With CXR_PICTURES=FOLDER each screen is also kept there, as docs/screens.md shows it:
`CXR_PICTURES=docs python -m pytest tests/test_screens.py`.
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from test_browser import CHROMIUM, PATIENCE, SCREEN, SHIPPED, running, settled, wait_for_film

from cxr_core.cards import load_card, load_predictions
from cxr_core.phantom import Opacity, png_bytes, thorax, write_dataset
from cxr_core.predictions import PredictionTable
from cxr_core.records import Opinion, Read, Records, journal

MODEL = SHIPPED.name
PHONE = {"width": 390, "height": 844}
MOST_BYTES = 150_000  # of a picture
WIDTH = 1200  # pixels of a picture; a screen has more
# Writes "/srv" for a folder, wherever the page names it.
SHORTENED = """(folder) => {
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode())
    words.currentNode.data = words.currentNode.data.replaceAll(folder, "/srv");
}"""
MAIN = "[data-testid=stMain]"

pytestmark = pytest.mark.browser


@dataclass(frozen=True)
class Site:
    """A running app that has been used for some weeks, and what can be dropped on it."""

    address: str
    films: Path
    scores: tuple[Path, Path]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Phantoms stand where the model's test films would, and readers have read some of them."""
    if not (SHIPPED / "model.onnx").is_file():
        pytest.skip(f"{MODEL} is not shipped here: there is nothing to show")
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed: apt-get install chromium")
    place = tmp_path_factory.mktemp("site")
    table = load_predictions(MODEL, SHIPPED.parent)
    _stand_ins(place / "data" / "phantoms", table)
    write_dataset(place / "data" / "a_folder", patients_per_class=6, size=320)
    films = place / "films"
    films.mkdir()
    for seed in range(6):
        spots = (Opacity(0.29, 0.62, 0.1, 0.8),) if seed % 2 else ()
        (films / f"ward-{seed + 1}.png").write_bytes(
            png_bytes(thorax(640, 560, seed=40 + seed, opacities=spots))
        )
    turned = np.ascontiguousarray(thorax(640, 560, seed=50).pixels[::-1, ::-1])
    (films / "ward-7.png").write_bytes(png_bytes(replace(thorax(64, 64), pixels=turned)))
    (films / "letter.txt").write_text("A letter that was dropped by mistake.")
    url = f"sqlite:///{place / 'records.sqlite'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_RECORDS", url)
        patch.setenv("CXR_DATA", str(place / "data"))
        patch.setenv("CXR_WORKLIST_DAYS", "14")
        with pytest.MonkeyPatch.context() as clock:
            _used(Records(url), table, clock)
        with running(SHIPPED.parent, place / "log") as address:
            yield Site(address, films, _scores(place, table))


def _stand_ins(folder: Path, table: PredictionTable) -> None:
    """Put a few phantoms under the names of all test films."""
    made = [png_bytes(thorax(280, 245, seed=seed)) for seed in range(12)]
    for name, film in zip(table.files, cycle(made), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(film)


def _used(records: Records, table: PredictionTable, clock: pytest.MonkeyPatch) -> None:
    """Fill the records: eight weeks of answers, and a reader who read first."""
    card, random = load_card(MODEL, SHIPPED.parent), np.random.default_rng(0)
    point = card.operating_points[0] or 0.5
    rows = random.permutation(len(table.files))[:240]
    for number, row in enumerate(rows):
        at = datetime.now(UTC) - timedelta(days=56 * (1 - number / len(rows)))
        clock.setattr(journal, "_now", lambda *_, at=at: at.isoformat(timespec="milliseconds"))
        chance, truth = float(table.y_score[row, 0]), bool(table.y_true[row, 0])
        answer = {"label": card.labels[0], "probability": chance, "operating_point": point}
        answer |= {"flag": chance >= point, "cannot_tell": False}
        of = {"digest": f"{row:064x}", "model": card.name, "version": card.version}
        gate = {"verdict": "ok", "checks": []}
        records.add(Read(gate=gate, predictions=[answer], **of))
        if number % 4 == 0:
            records.add(
                Opinion(
                    label=card.labels[0],
                    stance="present" if truth ^ (number % 28 == 0) else "absent",
                    confidence=4,
                    before=True,
                    probability=chance,
                    flag=chance >= point,
                    test_film=table.files[row],
                    **of,
                )
            )
    records.close()


def _scores(place: Path, table: PredictionTable) -> tuple[Path, Path]:
    """Write scores as `predict --csv` does, and what is true, of films of another site."""
    label, rows = table.labels[0], range(0, len(table.files), 3)
    ours, theirs = StringIO(), StringIO()
    one, other = csv.writer(ours), csv.writer(theirs)
    point = load_card(MODEL, SHIPPED.parent).operating_points[0]
    one.writerow(["file", "ok", f"probability_{label}", f"operating_point_{label}"])
    other.writerow(["file", "patient", label])
    for row in rows:
        one.writerow([f"site-{row}.png", True, table.y_score[row, 0], point])
        other.writerow([f"site-{row}.png", f"patient-{row // 2}", table.y_true[row, 0]])
    files = place / "scores.csv", place / "truth.csv"
    for path, text in zip(files, (ours, theirs), strict=True):
        path.write_text(text.getvalue())
    return files


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Page]:
    """One browser for all screens, on a computer that prefers dark themes."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = chromium.new_context(viewport=SCREEN, color_scheme="dark")
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context.new_page()
        chromium.close()


def seen(page: Page, name: str, place: Path | None = None) -> None:
    """Check what holds of every screen, also on a phone; keep its picture where one is wanted.

    `place` is a folder of this machine, which a picture does not show.
    """
    settled(page)
    page.mouse.move(5, 450)  # nothing hovers
    page.wait_for_timeout(400)  # charts grow into their place
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    assert page.get_by_text("Traceback").count() == 0
    if place is not None:
        page.evaluate(SHORTENED, str(place))
    shot = page.screenshot()
    try:
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(400)
        over = page.locator(MAIN).evaluate("it => it.scrollWidth - it.clientWidth")
        assert over <= 0, f"{over} pixels are cut off on a phone"
    finally:
        page.set_viewport_size(SCREEN)
    if os.environ.get("CXR_PICTURES"):
        folder = Path(os.environ["CXR_PICTURES"])
        (folder / f"{name}.png").write_bytes(small(shot))


def small(shot: bytes) -> bytes:
    """Return a screenshot as a palette PNG below `MOST_BYTES`."""
    picture = Image.open(BytesIO(shot)).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    for greys in (224, 160, 96, 32):
        told = BytesIO()
        drawn = picture.quantize(palette=palette_of(picture, greys), dither=Image.Dither.NONE)
        drawn.save(told, "PNG", optimize=True)
        if told.tell() <= MOST_BYTES:
            break
    return told.getvalue()


def palette_of(picture: Image.Image, greys: int) -> Image.Image:
    """Choose colours: most go to the greys of films, 32 to what is coloured and small."""
    pixels = np.asarray(picture)
    bright = pixels[np.ptp(pixels, axis=2) > 60][None]
    chosen = picture.quantize(greys).getpalette() or []
    if bright.size:
        chosen += Image.fromarray(bright).quantize(32).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(chosen)
    return palette


def test_read(page: Page, site: Site) -> None:
    page.goto(site.address)
    page.get_by_role("button", name="Try the sample film").first.click()
    expect(page.get_by_role("status", name="Answer")).to_contain_text("pneumonia")
    wait_for_film(page)
    expect(page.get_by_text("On this film:")).to_be_visible()
    seen(page, "read")


def test_read_first(page: Page, site: Site) -> None:
    page.goto(site.address)
    page.get_by_text("Read first", exact=True).click()
    page.get_by_role("button", name="Try the sample film").first.click()
    expect(page.get_by_role("status", name="Read first")).to_contain_text("What do you see?")
    wait_for_film(page)
    seen(page, "read-first")


def test_worklist(page: Page, site: Site) -> None:
    page.goto(f"{site.address}/worklist")
    page.set_input_files(".st-key-intake input[name=films]", sorted(site.films.iterdir()))
    standing = page.get_by_role("status", name="Worklist")
    expect(standing).to_contain_text("of 8 films flagged")
    expect(standing).not_to_contain_text("so far")
    seen(page, "worklist")


def choose_view(page: Page, site: Site, view: str) -> None:
    page.goto(f"{site.address}/evaluation")
    page.get_by_role("radio", name=view, exact=True).click()


def test_evaluation(page: Page, site: Site) -> None:
    choose_view(page, site, "Record")
    expect(page.get_by_text("films with pneumonia").first).to_be_visible()
    seen(page, "evaluation")


def test_explanations(page: Page, site: Site) -> None:
    choose_view(page, site, "Explanations")
    expect(page.get_by_text("Integrated gradients").first).to_be_visible()
    seen(page, "explanations")


def test_readers(page: Page, site: Site) -> None:
    choose_view(page, site, "Readers")
    expect(page.get_by_text("reader and model say the same")).to_be_visible()
    seen(page, "readers")


def test_local_check(page: Page, site: Site) -> None:
    choose_view(page, site, "Local check")
    for place, path in enumerate(site.scores):
        settled(page)  # an uploader that is drawn anew meanwhile takes no file
        page.set_input_files(f"[data-testid=stFileUploader] input >> nth={place}", path)
        expect(page.get_by_text(path.name)).to_be_visible()
    page.get_by_role("button", name="Check on these films").click()
    expect(page.get_by_text("The shipped calibration")).to_be_visible()
    seen(page, "local-check")


def test_monitoring(page: Page, site: Site) -> None:
    choose_view(page, site, "Monitoring")
    expect(page.get_by_text("week by week")).to_be_visible()
    seen(page, "monitoring")


def test_films(page: Page, site: Site) -> None:
    page.goto(f"{site.address}/films")
    expect(page.locator(".cxr-film").first).to_be_visible()
    expect(page.locator("[data-testid=stImage] img").first).to_be_visible()
    seen(page, "films")


def test_models(page: Page, site: Site) -> None:
    page.goto(f"{site.address}/models")
    expect(page.get_by_text("How not to use it")).to_be_visible()
    seen(page, "models")


def test_data_folders(page: Page, site: Site) -> None:
    page.goto(f"{site.address}/datasets")
    page.get_by_label("Folder that holds the films").fill("a_folder")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("no patient is in more than one split")).to_be_visible()
    expect(page.get_by_text("Films drawn by chance")).to_be_visible()
    seen(page, "data-folders", site.films.parent)


def test_a_picture_is_small_and_keeps_its_shape() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (90, 144, 3)).astype(np.uint8)
    told = BytesIO()
    Image.fromarray(noisy).resize((1440, 900)).save(told, "PNG")
    picture = Image.open(BytesIO(small(told.getvalue())))
    assert (picture.mode, picture.size) == ("P", (1200, 750))


def test_every_picture_of_the_documentation_is_small_and_shown() -> None:
    docs = SHIPPED.parents[1] / "docs"
    pages = [docs / "screens.md", docs.parent / "README.md"]
    told = "".join(path.read_text("utf-8") for path in pages)
    for path in docs.glob("*.png"):
        assert path.stat().st_size <= MOST_BYTES, path.name
        with Image.open(path) as picture:
            assert picture.mode == "P", path.name
        assert path.name in told, f"{path.name} is shown nowhere"
