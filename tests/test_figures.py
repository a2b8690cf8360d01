"""Figures of the test record: drawn from reports that are checked by hand."""

import tomllib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from cxr_core import figures
from cxr_core.errors import ArgumentError
from cxr_core.evaluation import evaluate, threshold_report

ROOT = Path(__file__).resolve().parents[1]
THEMES = ("dark", "light")

# Ten films without the finding and ten with it: at 0.5 there are 2 false alarms and 1 miss.
Y_TRUE = np.repeat([0, 1], 10)
ABSENT_SCORES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.6, 0.7]
PRESENT_SCORES = [0.3, 0.55, 0.65, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.99]
Y_SCORE = np.array(ABSENT_SCORES + PRESENT_SCORES)
HISTORY = {
    "loss": [0.6, 0.4, 0.3],
    "validation_auroc": [0.90, 0.94, 0.96],
    "perturbed_auroc": [0.85, 0.90, 0.93],
    "learning_rate": [1e-3, 1e-3, 1e-4],
}


def report_of(y_true=Y_TRUE, y_score=Y_SCORE, label="Pneumonia", point=0.5):
    made = evaluate(y_true[:, None], y_score[:, None], [label], operating_points=[point], rounds=20)
    return made.labels[0]


def exclusive_report():
    truth = np.repeat(np.eye(3, dtype=int), 4, axis=0)
    scores = np.where(truth, 0.6, 0.2)
    scores[0] = (0.1, 0.8, 0.1)
    labels = ["Normal", "Bacterial pneumonia", "Viral pneumonia"]
    return evaluate(truth, scores, labels, operating_points=[None] * 3, exclusive=True, rounds=20)


def drawings(theme="dark", report=None, y_true=Y_TRUE, y_score=Y_SCORE):
    """Every figure there is, by name."""
    report = report or report_of()
    drawn = {
        "matrix": figures.matrix_figure(exclusive_report(), theme=theme),
        "roc": figures.roc_figure(y_true, y_score, report, theme=theme),
        "precision-recall": figures.precision_recall_figure(y_true, y_score, report, theme=theme),
        "calibration": figures.calibration_figure(report, theme=theme),
        "scores": figures.score_histogram_figure(y_true, y_score, report, theme=theme),
        "history": figures.history_figure(HISTORY, theme=theme),
    }
    if report.confusion is not None:
        drawn["confusion"] = figures.confusion_figure(report, theme=theme)
    return drawn


def words_of(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def marked_points(figure):
    """Where dots as large as that of the operating point stand."""
    dots = [line for line in figure.findobj(Line2D) if line.get_markersize() == 8]
    return [tuple(float(one) for one in (*dot.get_xdata(), *dot.get_ydata())) for dot in dots]


def assert_within_its_edges(name, figure):
    """Nothing that is written may be cut off at the border of the picture."""
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    for axes in figure.axes:
        for text in (*axes.get_children(), axes.xaxis.label, axes.yaxis.label):
            if isinstance(text, Text) and text.get_text():
                box = text.get_window_extent()
                inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
                assert inside, f"{name}: '{text.get_text()}' is cut off"


# --- all figures ---


@pytest.mark.parametrize("theme", THEMES)
def test_every_figure_lies_on_the_ground_of_its_theme(theme):
    ground = figures.PALETTES[theme].ground
    for name, figure in drawings(theme).items():
        picture = Image.open(BytesIO(figures.figure_png(figure, dpi=50))).convert("RGB")
        corner = "#{:02x}{:02x}{:02x}".format(*picture.getpixel((2, 2)))
        assert corner == ground, name
        assert picture.size == tuple(round(50 * side) for side in figure.get_size_inches())


def test_nothing_written_is_cut_off():
    for name, figure in drawings().items():
        assert_within_its_edges(name, figure)


def test_nothing_written_is_cut_off_for_a_rare_finding_with_a_long_name():
    generator = np.random.default_rng(0)
    truth = (np.arange(2000) % 50 == 0).astype(int)
    scores = 1 / (1 + np.exp(3.5 - truth - generator.normal(size=2000)))
    report = report_of(truth, scores, "Enlarged_Cardiomediastinum", 0.03)
    for name, figure in drawings("dark", report, truth, scores).items():
        assert_within_its_edges(name, figure)


@pytest.mark.parametrize("theme", THEMES)
def test_palettes_are_those_of_the_app(theme):
    look = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"][theme]
    palette = figures.PALETTES[theme]

    assert palette.ground == look["backgroundColor"]
    assert palette.line == look["borderColor"]
    assert palette.text == look["textColor"]
    assert palette.muted == look["grayColor"]
    assert palette.accent == look["primaryColor"]
    assert palette.flagged == look["orangeColor"]


@pytest.mark.parametrize("name", ["text", "muted", "accent", "flagged", "cleared"])
@pytest.mark.parametrize("theme", THEMES)
def test_words_stand_out_from_the_ground(theme, name):
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""

    def luminance(colour):
        shares = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    palette = figures.PALETTES[theme]
    dark, light = sorted((luminance(getattr(palette, name)), luminance(palette.ground)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


# --- the confusion matrix ---


def test_a_confusion_matrix_carries_counts_rates_and_intervals():
    words = words_of(figures.confusion_figure(report_of()))

    assert [word for word in words if word.isdigit()] == ["8", "2", "1", "9"]
    for expected in (
        "specificity 0.80",
        "false alarms 0.20",
        "missed 0.10",
        "sensitivity 0.90",
        "right (NPV) 0.89",
        "right (PPV) 0.82",
        "Pneumonia · operating point 0.50",
    ):
        assert expected in words
    assert words.count("10 films") == 2
    # Wilson's interval of 8 of 10, and of the other 2.
    assert "0.49–0.94" in words
    assert "0.06–0.51" in words


def test_a_confusion_matrix_follows_a_moved_threshold():
    moved = threshold_report(Y_TRUE, Y_SCORE, 0.75)

    words = words_of(figures.confusion_figure(moved))
    assert [word for word in words if word.isdigit()] == ["10", "0", "3", "7"]
    assert "operating point 0.75" in words


def test_without_an_operating_point_there_is_no_confusion_matrix():
    with pytest.raises(ArgumentError, match="choose one"):
        figures.confusion_figure(report_of(point=None))


def test_a_matrix_of_several_answers_carries_counts_and_accuracy():
    words = words_of(figures.matrix_figure(exclusive_report()))

    assert [word for word in words if word.isdigit()] == [
        "3",
        "1",
        "0",
        "0",
        "4",
        "0",
        "0",
        "0",
        "4",
    ]
    assert any(word.startswith("12 films · accuracy 0.92 (") for word in words)


def test_labels_that_do_not_exclude_each_other_have_no_common_matrix():
    both = evaluate(
        Y_TRUE[:, None], Y_SCORE[:, None], ["Pneumonia"], operating_points=[0.5], rounds=20
    )
    with pytest.raises(ArgumentError, match="one 2 x 2 for each"):
        figures.matrix_figure(both)


# --- curves ---


def test_the_operating_point_lies_where_the_report_says():
    figure = figures.roc_figure(Y_TRUE, Y_SCORE, report_of())

    assert marked_points(figure) == [pytest.approx((0.2, 0.9))]
    assert "operating point 0.50" in words_of(figure)


def test_the_operating_point_lies_on_the_curve():
    for draw, where in (
        (figures.roc_figure, (0.2, 0.9)),
        (figures.precision_recall_figure, (0.9, 9 / 11)),
    ):
        figure = draw(Y_TRUE, Y_SCORE, report_of())
        curve = max(figure.findobj(Line2D), key=lambda line: len(line.get_xdata()))
        distance = np.abs(curve.get_xydata() - where).max(axis=1)
        assert marked_points(figure) == [pytest.approx(where)]
        assert distance.min() < 1e-9


def test_a_slider_moves_the_point_and_not_the_curve():
    report, moved = report_of(), threshold_report(Y_TRUE, Y_SCORE, 0.75)
    figure = figures.roc_figure(Y_TRUE, Y_SCORE, report, at=moved)

    assert marked_points(figure) == [pytest.approx((0.0, 0.7))]
    assert "operating point 0.75" in words_of(figure)
    assert f"AUROC {report.auroc.value:.2f}" in words_of(figure)


def test_without_an_operating_point_no_point_is_marked():
    figure = figures.roc_figure(Y_TRUE, Y_SCORE, report_of(point=None))

    assert marked_points(figure) == []


@pytest.mark.parametrize("draw", [figures.roc_figure, figures.precision_recall_figure])
def test_films_of_one_class_have_no_curve_and_say_so(draw):
    truth, scores = np.zeros(9, int), np.linspace(0.1, 0.9, 9)
    figure = draw(truth, scores, report_of(truth, scores))

    assert any("one class" in word for word in words_of(figure))
    assert marked_points(figure) == []
    figures.figure_png(figure, dpi=40)


def test_calibration_shows_each_bin_with_its_interval():
    report = report_of()
    figure = figures.calibration_figure(report)
    dots = next(line for line in figure.findobj(Line2D) if line.get_markersize() == 5)

    expected = [(one.mean_score, one.observed.value) for one in report.calibration]
    assert dots.get_xydata().tolist() == [pytest.approx(point) for point in expected]
    (bars,) = figure.axes[0].collections
    spans = [(segment[0, 1], segment[1, 1]) for segment in bars.get_segments()]
    assert spans == [
        pytest.approx((one.observed.low, one.observed.high)) for one in report.calibration
    ]


def test_calibration_of_a_rare_finding_fills_the_picture():
    truth, scores = np.zeros(2000, int), np.linspace(0.001, 0.05, 2000)
    truth[-20:] = 1
    axes = figures.calibration_figure(report_of(truth, scores)).axes[0]

    assert axes.get_xlim() == axes.get_ylim() == (0, 0.2)


def test_a_histogram_counts_every_film_on_its_side():
    axes = figures.score_histogram_figure(Y_TRUE, Y_SCORE, report_of()).axes[0]
    heights = np.array([bar.get_height() for bar in axes.patches])

    assert (heights[heights > 0] ** 2).sum() == pytest.approx(10)
    assert (heights[heights < 0] ** 2).sum() == pytest.approx(10)
    words = words_of(axes)
    assert {"8 not flagged", "2 flagged", "1 not flagged", "9 flagged"} <= set(words)


# --- training curves and the colour bar ---


def test_a_history_is_drawn_as_loss_and_auroc():
    figure = figures.history_figure(HISTORY)

    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Loss",
        "AUROC on validation films",
    ]
    drawn = [
        line.get_ydata().tolist() for line in figure.findobj(Line2D) if len(line.get_xdata()) == 3
    ]
    for name in ("loss", "validation_auroc", "perturbed_auroc"):
        assert HISTORY[name] in drawn
    assert {"training", "as taken", "perturbed"} <= set(words_of(figure))


def test_a_history_of_one_epoch_is_drawn():
    figure = figures.history_figure({name: values[:1] for name, values in HISTORY.items()})

    figures.figure_png(figure, dpi=40)
    assert "as taken" in words_of(figure)


def test_a_history_without_known_columns_is_refused():
    with pytest.raises(ArgumentError, match=r"validation_auroc.*but seconds came"):
        figures.history_figure({"seconds": [1.0]})


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("theme", THEMES)
def test_a_colour_bar_ends_in_the_strongest_colour(theme, signed):
    bar = Image.open(BytesIO(figures.colour_bar(signed, theme))).convert("RGBA")
    middle = np.asarray(bar)[round(0.26 * bar.height)]
    coloured = middle[(middle[:, 3] == 255)]

    strongest = figures.colour_table(signed)[255, :3].astype(int)
    assert np.abs(coloured[:, :3].astype(int) - strongest).max(axis=1).min() <= 3
    assert (middle[:, 3] == 0).any()
