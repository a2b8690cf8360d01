"""What is measured on the picture itself, what the gate's network says of it, and the mending."""

import threading
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from cxr_core.cards import list_models, load_card
from cxr_core.errors import ArgumentError, ModelError, UnknownName
from cxr_core.gate import (
    EXTENTS,
    KINDS,
    LABELS,
    QUESTIONS,
    SIDES,
    TONES,
    TURNS,
    GateCheck,
    GateReport,
    Glimpse,
    Mend,
    check,
    checks_of,
    glance_at,
    learned,
    load_gate,
    look,
    looked_at,
    mend_for,
    mended,
    parted,
    pixel_checks,
    softmax,
    within_borders,
)
from cxr_core.gate.pixels import longest_line
from cxr_core.images import Facts, Radiograph, load_radiograph, read_radiograph
from cxr_core.phantom import png_bytes, sample_film, thorax


def film_of(pixels: np.ndarray) -> Radiograph:
    return Radiograph(np.asarray(pixels, np.float32), Facts("PNG", 8, "MONOCHROME2"), "0" * 64)


def measured(pixels: np.ndarray) -> dict[str, GateCheck]:
    film = film_of(pixels)
    return {one.name: one for one in pixel_checks(film, glance_at(film))}


@pytest.fixture(scope="module")
def chest() -> np.ndarray:
    return thorax(512, 448, seed=3).pixels


# --- measured ---


def test_a_good_film_passes_every_measure(chest):
    assert {one.verdict for one in measured(chest).values()} == {"ok"}


@pytest.mark.parametrize(
    ("brightest", "verdict"), [(0.5, "ok"), (0.4, "caution"), (0.15, "refuse")]
)
def test_a_dark_film_is_told_by_its_brightest_parts(brightest, verdict):
    # Half of the film is black, half as bright as said: so is its 99th percentile.
    pixels = np.zeros((128, 128))
    pixels[:, 64:] = brightest
    found = measured(pixels)["exposure"]
    assert found.verdict == verdict
    assert found.value == pytest.approx(brightest, abs=1 / 255)


@pytest.mark.parametrize(("share", "verdict"), [(0.125, "ok"), (0.25, "caution"), (0.75, "refuse")])
def test_what_is_burnt_to_white_is_counted(share, verdict):
    # A phantom has even borders of its own; this film is busy up to its edges.
    pixels = 0.9 * np.random.default_rng(3).random((128, 128))
    width = int(128 * 128 * share) // 126
    pixels[1:-1, 1 : 1 + width] = 1
    found = measured(pixels)["saturation"]
    assert found.value == pytest.approx(126 * width / 128**2, abs=1e-4)
    assert found.verdict == verdict
    assert verdict == "ok" or "burnt to white" in found.reason


@pytest.mark.parametrize(
    ("grey", "edge", "verdict"),
    [
        (0.0, 8, "ok"),
        (0.0, 20, "caution"),
        (0.0, 42, "refuse"),
        *((grey, *case) for grey in (0.4, 1.0) for case in ((5, "ok"), (8, "caution"))),
        *((grey, edge, "refuse") for grey in (0.4, 1.0) for edge in (14, 42)),
    ],
)
def test_even_borders_are_told_the_more_so_if_not_black_and_nothing_else_is_measured_on_them(
    grey, edge, verdict
):
    inner = 0.05 + 0.9 * np.random.default_rng(3).random((128, 128 - 2 * edge))
    found = measured(np.pad(inner, ((0, 0), (edge, edge)), constant_values=grey))
    assert found["borders"].value == pytest.approx(edge / 64, abs=1e-4)
    assert found["borders"].verdict == verdict
    assert found["contrast"].value == pytest.approx(inner.std(), abs=1e-3)
    assert found["exposure"].value == pytest.approx(np.quantile(inner, 0.99), abs=3 / 255)
    assert found["saturation"].value == 0


def test_a_film_burnt_within_white_borders_is_called_burnt():
    pixels = np.ones((128, 128), np.float32)
    pixels[:, 16:112] = 0.9 * np.random.default_rng(3).random((128, 96))
    pixels[10:118, 30:64] = 1  # 108 x 34 of 128 x 96 within the borders
    found = measured(pixels)["saturation"]
    assert found.value == pytest.approx(108 * 34 / (128 * 96), abs=1e-4)
    assert found.verdict == "caution" and "burnt to white, and" in found.reason


@pytest.mark.parametrize("grey", [0.0, 0.4, 1.0])
def test_what_is_looked_at_lies_within_even_borders(grey):
    inner = np.random.default_rng(3).integers(0, 256, (96, 80)).astype(np.uint8)
    square = np.full((128, 128), round(255 * grey), np.uint8)
    square[20:116, 10:90] = inner
    assert_array_equal(within_borders(square), inner)
    assert_array_equal(looked_at(square), looked_at(inner))
    assert looked_at(square).shape == (64, 64)


@pytest.mark.parametrize("size", [0, 1, 15])
def test_what_is_all_border_is_looked_at_whole(size):
    square = np.full((128, 128), 200, np.uint8)
    square[:size, :size] = np.random.default_rng(0).integers(0, 150, (size, size))
    assert_array_equal(within_borders(square), square)


def test_a_picture_of_one_white_is_refused_for_its_borders_and_its_white():
    found = measured(np.ones((128, 128), np.float32))
    assert (found["borders"].value, found["borders"].verdict) == (1, "refuse")
    assert (found["saturation"].value, found["saturation"].verdict) == (1, "refuse")


def test_a_film_blurred_beyond_what_models_read_is_told(chest):
    found = [measured(gaussian_filter(chest, sigma))["sharpness"] for sigma in (0, 3, 10, 30)]
    values = [one.value for one in found]
    assert values == sorted(values, reverse=True)
    assert (found[0].verdict, found[-1].verdict) == ("ok", "refuse")


@pytest.mark.parametrize(("edge", "verdict"), [(0, "ok"), (16, "caution"), (40, "refuse")])
def test_borders_count_by_their_area(edge, verdict):
    pixels = np.zeros((128, 128))
    inner = np.random.default_rng(0).random((128 - 2 * edge, 128 - 2 * edge))
    pixels[edge : 128 - edge, edge : 128 - edge] = inner
    found = measured(pixels)["borders"]
    assert found.value == pytest.approx(1 - (1 - edge / 64) ** 2, abs=1e-4)
    assert found.verdict == verdict


def with_text(pixels: np.ndarray, text: str) -> np.ndarray:
    image = Image.fromarray((pixels * 255).astype(np.uint8))
    font = ImageFont.load_default(18.0)
    ImageDraw.Draw(image).text((12, 12), text, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


def test_a_line_of_letters_is_text_and_a_side_marker_is_not(chest):
    dark = chest * 0.7
    assert longest_line(with_text(dark, "DOE JANE 19730412")) >= 10
    assert longest_line(with_text(dark, "L")) <= 2
    found = measured(with_text(dark, "DOE JANE 19730412"))["text"]
    assert found.verdict == "caution" and "who the patient is" in found.reason


def test_a_film_too_small_for_text_says_so(chest):
    found = measured(chest[:200, :200])["text"]
    assert (found.value, found.verdict) == (None, "ok")


# --- learned ---


@pytest.fixture(scope="module")
def gate():
    return load_gate()


def seen(gate, pixels: np.ndarray) -> dict[str, GateCheck]:
    return {one.name: one for one in checks_of(look(gate, glance_at(film_of(pixels))), gate)}


def test_the_gate_is_no_classifier():
    assert "gate" not in {card.name for card in list_models()}
    assert load_card("gate", kind="gate").labels == LABELS
    with pytest.raises(ArgumentError, match="'gate' is a gate"):
        load_card("gate")
    with pytest.raises(ArgumentError, match="is a classifier, where a gate"):
        load_card("pediatric-pneumonia", kind="gate")


def test_questions_are_parted_and_each_has_one_answer():
    logits = np.log(np.array([*[1.0] * 5, 5.0, 1, 1, 1, 7, 1, 3, 4, 1, 1, 9], np.float32))
    kind, turn, side, tone, extent = (softmax(part) for part in parted(logits))
    assert [len(part) for part in (kind, turn, side, tone, extent)] == [len(q) for q in QUESTIONS]
    assert_allclose(kind, [0.1] * 5 + [0.5], rtol=1e-6)
    assert_allclose(turn, [0.1, 0.1, 0.1, 0.7], rtol=1e-6)
    assert_allclose((side, tone, extent), [[0.25, 0.75], [0.8, 0.2], [0.1, 0.9]], rtol=1e-6)
    glimpse = Glimpse.of(logits)
    assert (glimpse.mirrored, glimpse.inverted, glimpse.cut) == pytest.approx((0.75, 0.2, 0.9))


def test_softmax_of_large_logits_does_not_overflow():
    assert_allclose(softmax(np.array([1000.0, 0.0], np.float32)), [1, 0])


@pytest.mark.parametrize("seed", range(5))
def test_computer_made_films_pass_and_their_faults_are_named(gate, seed):
    pixels = thorax(512, 448, seed=seed).pixels
    assert {one.verdict for one in seen(gate, pixels).values()} == {"ok"}
    for quarters in (1, 2, 3):
        found = seen(gate, np.rot90(pixels, quarters))["orientation"]
        assert (found.value, found.verdict) == (TURNS[quarters], "refuse")
    assert seen(gate, 1 - pixels)["polarity"].verdict == "refuse"
    assert seen(gate, pixels[:, ::-1])["side"].verdict == "caution"


def test_the_sample_film_passes(gate, made_card):
    assert check(sample_film(), made_card, age_years=3).verdict == "ok"


def test_noise_and_shades_are_no_chest_films(gate):
    random = np.random.default_rng(0)
    noise = random.random((300, 300))
    shade = np.linspace(0, 1, 300)[:, None] * np.ones(300)
    for pixels in (noise, shade, gaussian_filter(noise, 8) * 10 % 1):
        found = seen(gate, pixels)
        assert found["picture"].verdict == "refuse"
        assert set(found) == {"picture"}, "what is no film has no top and no sides"


def test_limits_count_from_the_very_value(gate):
    points = dict(zip(LABELS, gate.card.operating_points, strict=True))
    least, upright = points[KINDS[0]], points[TURNS[0]]
    inverted, mirrored, cut = points[TONES[1]], points[SIDES[1]], points[EXTENTS[1]]

    def verdicts(kind, turn, side=0.0, tone=0.0, extent=0.0):
        kinds, turns = np.array([kind, 1 - kind, 0, 0, 0, 0]), np.array([turn, 0, 1 - turn, 0])
        told = checks_of(Glimpse(kinds, turns, side, tone, extent), gate)
        return [one.verdict for one in told]

    below = np.nextafter
    assert verdicts(least, upright) == ["ok"] * 5
    assert verdicts(below(least, 0), upright) == ["refuse"]
    assert verdicts(least, upright, extent=cut) == ["ok", "refuse", "ok", "ok", "ok"]
    assert verdicts(least, upright, extent=below(cut, 0)) == ["ok"] * 5
    assert verdicts(least, below(upright, 0))[2] == "refuse"
    assert verdicts(least, upright, mirrored, inverted)[3:] == ["refuse", "caution"]
    assert verdicts(least, upright, below(mirrored, 0), below(inverted, 0)) == ["ok"] * 5


@pytest.mark.parametrize("seed", range(3))
def test_a_computer_made_film_in_borders_passes_and_a_part_of_it_does_not(gate, seed):
    pixels = thorax(512, 448, seed=seed).pixels
    for grey in (0.0, 0.5, 1.0):
        found = seen(gate, np.pad(pixels, 67, constant_values=grey))
        assert {one.verdict for one in found.values()} == {"ok"}
    for part in (pixels[128:384, 112:336], pixels[:, :269], pixels[:, 179:]):
        found = seen(gate, part)
        assert "refuse" in {one.verdict for one in found.values()}
        assert set(found) == {"picture"} or found["extent"].verdict == "refuse"


def test_without_a_network_the_gate_says_so(monkeypatch, made_card):
    monkeypatch.setattr(learned, "gate_root", lambda: None)
    report = check(thorax(128, 112, seed=1), made_card, age_years=3)
    (noted,) = report.by_verdict("caution")
    assert noted.name == "picture" and "absent" in noted.reason


def test_another_models_folder_uses_the_gate_beside_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("CXR_MODELS", str(tmp_path))
    shipped = learned.gate_root()
    assert shipped is not None and (shipped / "gate" / "card.json").is_file()
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "model.keras").touch()
    assert learned.gate_root() == tmp_path


def test_a_gate_with_other_questions_is_an_error(monkeypatch, tmp_path, gate):
    other = replace(gate.card, labels=tuple(f"{label}?" for label in LABELS))
    fake = type("Gate", (), {"card": other})()
    monkeypatch.setattr(learned, "load_classifier", lambda *_, **__: fake)
    monkeypatch.setattr(learned, "gate_root", lambda: tmp_path)
    with pytest.raises(ModelError, match="train gate"):
        load_gate()


def test_threads_share_one_gate_and_get_one_answer(gate):
    film, answers = thorax(256, 224, seed=1), []

    def ask():
        answers.append((load_gate(), look(load_gate(), glance_at(film)).kind))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(found) for found, _ in answers} == {id(gate)}
    for _, kind in answers:
        assert_array_equal(kind, answers[0][1])


# --- mending ---


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
def test_what_is_mended_is_the_film_again(turns, mirrored, inverted):
    pixels = thorax(96, 84, seed=4).pixels
    faulty = np.rot90(pixels[:, ::-1] if mirrored else pixels, turns)
    film = film_of(1 - faulty if inverted else faulty)
    faults = [TONES[1]] * inverted + [TURNS[turns]] * (turns > 0) + [SIDES[1]] * mirrored
    for fault in faults:
        film = mended(film, Mend(fault, "", ""))
    assert_allclose(film.pixels, pixels, atol=1e-6)
    assert not film.pixels.flags.writeable


def test_mending_leaves_the_film_that_came_as_it_was(chest):
    film = film_of(chest.copy())
    before = film.pixels.copy()
    turned = mended(film, Mend(TURNS[2], "", ""))
    assert_array_equal(film.pixels, before)
    assert (turned.digest, turned.facts) == (film.digest, film.facts)


def test_an_undone_inversion_inverts_the_windows_of_the_file(chest):
    film = film_of(chest)
    film = replace(film, facts=replace(film.facts, windows=(("HARDER", 0.25, 0.75 - 0.125),)))
    once = mended(film, Mend(TONES[1], "", ""))
    assert once.facts.windows == (("HARDER", 0.375, 0.75),)
    assert mended(once, Mend(TONES[1], "", "")).facts.windows == film.facts.windows


@pytest.mark.parametrize("grey", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("size", [(256, 224), (700, 900)])
def test_cropping_takes_even_borders_off_to_the_pixel(grey, size):
    # A phantom has even borders of its own; this film is busy up to its edges.
    pixels = 0.2 + 0.6 * np.random.default_rng(4).random(size, np.float32)
    up, left = size[0] // 4, size[1] // 3
    film = film_of(np.pad(pixels, ((up, up // 2), (left, left // 2)), constant_values=grey))
    assert_array_equal(mended(film, Mend("borders", "", "")).pixels, pixels)


def test_a_picture_of_one_grey_has_nothing_to_crop():
    plain = film_of(np.full((100, 120), 0.3))
    assert mended(plain, Mend("borders", "", "")).pixels.shape == (100, 120)


def test_a_quarter_turn_exchanges_the_spacing_of_rows_and_columns(chest):
    facts = replace(film_of(chest).facts, pixel_spacing_mm=(0.1, 0.2))
    film = replace(film_of(chest), facts=facts)
    spacing = [mended(film, Mend(TURNS[k], "", "")).facts.pixel_spacing_mm for k in (1, 2, 3)]
    assert spacing == [(0.2, 0.1), (0.1, 0.2), (0.2, 0.1)]


def test_only_what_can_be_undone_is_offered_refusals_first():
    def report(*checks):
        return GateReport(tuple(GateCheck(n, v, "", w, "R.") for n, v, w in checks))

    mirrored = ("side", SIDES[1], "caution")
    upside_down = ("orientation", TURNS[2], "refuse")
    assert mend_for(report(("age", 40.0, "refuse"), ("text", 12, "caution"))) == ()
    assert [m.fault for m in mend_for(report(mirrored))] == [SIDES[1]]
    both = mend_for(report(mirrored, upside_down, ("polarity", TONES[1], "refuse")))
    assert [m.fault for m in both] == [TURNS[2], TONES[1]]
    borders = ("borders", 0.4, "caution")
    assert [m.fault for m in mend_for(report(borders, mirrored))] == ["borders"]
    assert [m.fault for m in mend_for(report(borders, upside_down))] == [TURNS[2]]
    assert mend_for(report(("borders", 0.1, "ok"))) == ()
    with pytest.raises(UnknownName):
        mended(sample_film(), Mend("torn", "", ""))


def test_an_upside_down_and_inverted_film_passes_once_mended(made_card):
    film = thorax(512, 448, seed=2)
    faulty = replace(film, pixels=np.ascontiguousarray(1 - np.rot90(film.pixels, 2)))
    report = check(faulty, made_card, age_years=3)
    assert {one.name for one in report.by_verdict("refuse")} == {"orientation", "polarity"}
    for mend in mend_for(report):
        faulty = mended(faulty, mend)
    assert check(faulty, made_card, age_years=3).verdict == "ok"


@pytest.mark.parametrize(
    ("grey", "wide", "verdict"),
    [(0, 150, "caution"), (0, 400, "refuse"), (1, 60, "refuse"), (0.5, 150, "refuse")],
)
def test_a_film_in_borders_is_told_and_passes_once_cropped(made_card, grey, wide, verdict):
    film = thorax(512, 448, seed=2)
    framed = replace(film, pixels=np.pad(film.pixels, wide, constant_values=grey))
    report = check(framed, made_card, age_years=3)
    assert [one.name for one in report.by_verdict(verdict)] == ["borders"]
    assert report.verdict == verdict
    (mend,) = mend_for(report)
    assert check(mended(framed, mend), made_card, age_years=3).verdict == "ok"


# --- nothing crashes it ---


def saved(pixels: np.ndarray, quality: int) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@st.composite
def changes(draw):
    share = st.floats(0, 0.45)
    return {
        "crop": [draw(share) for _ in range(4)],
        "gamma": draw(st.floats(0.2, 5)),
        "pad": [draw(st.integers(0, 200)) for _ in range(4)],
        "grey": draw(st.floats(0, 1)),
        "quality": draw(st.integers(1, 95)),
    }


def changed(pixels: np.ndarray, how: dict) -> Radiograph:
    """Crop, bend the tones, pad, and send it through JPEG."""
    top, bottom, left, right = how["crop"]
    height, width = pixels.shape
    crop = pixels[
        int(top * height) : height - int(bottom * height),
        int(left * width) : width - int(right * width),
    ]
    up, down, before, after = how["pad"]
    padded = np.pad(
        crop ** how["gamma"], ((up, down), (before, after)), constant_values=how["grey"]
    )
    return read_radiograph(saved(padded, how["quality"]), "film.jpg")


def holds_together(report: GateReport) -> None:
    assert report.verdict in ("ok", "caution", "refuse")
    for one in report.checks:
        assert one.reason.endswith(".") and one.limit
        assert one.verdict != "refuse" or one.mend.endswith(".")
        assert one.value is None or isinstance(one.value, str) or np.isfinite(one.value)


anyhow = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@anyhow
@given(how=changes())
def test_no_change_of_a_computer_made_film_makes_the_gate_fail(how, made_card):
    film = changed(thorax(256, 224, seed=5).pixels, how)
    report = check(film, made_card, age_years=3)
    holds_together(report)
    assert check(film, made_card, age_years=3) == report, "nothing in it is random"


@anyhow
@given(how=changes(), which=st.integers(0, 29))
def test_no_change_of_a_real_film_makes_the_gate_fail(data, how, which, made_card):
    paths = sorted((data / "pediatric_fullres").rglob("*.jp*g"))
    film = load_radiograph(paths[which % len(paths)])
    holds_together(check(changed(film.pixels[::4, ::4], how), made_card, age_years=3))


@anyhow
@given(how=changes(), turns=st.integers(0, 3), inverted=st.booleans())
def test_whatever_is_offered_can_be_done_and_leaves_a_film(how, turns, inverted, made_card):
    film = changed(thorax(256, 224, seed=6).pixels, how)
    pixels = np.ascontiguousarray(np.rot90(1 - film.pixels if inverted else film.pixels, turns))
    film = replace(film, pixels=pixels)
    for _ in range(4):
        report = check(film, made_card, age_years=3)
        holds_together(report)
        for mend in mend_for(report):
            film = mended(film, mend)
        assert film.pixels.ndim == 2 and min(film.pixels.shape) > 0
        assert film.digest and film.pixels.dtype == np.float32


@anyhow
@given(
    edges=st.tuples(*[st.integers(0, 40)] * 4), grey=st.integers(0, 255), seed=st.integers(0, 99)
)
def test_even_borders_of_any_width_and_grey_are_not_looked_at(edges, grey, seed):
    up, down, left, right = edges
    inner = np.random.default_rng(seed).integers(0, 256, (128 - up - down, 128 - left - right))
    square = np.pad(inner, ((up, down), (left, right)), constant_values=grey).astype(np.uint8)
    assert_array_equal(within_borders(square), inner)


@anyhow
@given(height=st.integers(16, 90), width=st.integers(16, 90), seed=st.integers(0, 2**16))
def test_any_small_picture_is_answered(height, width, seed, made_card):
    pixels = np.random.default_rng(seed).random((height, width), np.float32)
    holds_together(check(film_of(pixels), made_card, age_years=3))


@settings(max_examples=40, deadline=None)
@given(quality=st.integers(40, 95), gamma=st.floats(0.8, 1.25), seed=st.integers(0, 40))
def test_what_units_and_archives_do_to_a_film_does_not_refuse_it(quality, gamma, seed):
    film = read_radiograph(saved(thorax(256, 224, seed=seed).pixels ** gamma, quality), "f.jpg")
    card = replace(list_models()[0], age_range=None, views=())
    refused = check(film, card).by_verdict("refuse")
    assert [one.name for one in refused if one.name != "resolution"] == []


def test_png_bytes_of_the_sample_pass_as_the_sample_does(made_card):
    read = read_radiograph(png_bytes(sample_film()), "sample.png")
    assert check(read, made_card, age_years=3) == check(sample_film(), made_card, age_years=3)


# --- real files ---


def test_a_dicom_film_with_the_wrong_tag_is_told_by_its_looks(data, made_card):
    adult = replace(made_card, age_range=None)
    right = check(load_radiograph(data / "dicom" / "rsna_pa_mono2_jpeg.dcm"), adult)
    wrong = check(load_radiograph(data / "dicom" / "rsna_pa_mono1_jpeg.dcm"), adult)
    assert not right.refused
    assert [one.name for one in wrong.by_verdict("refuse")] == ["polarity"]
