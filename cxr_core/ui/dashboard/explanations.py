"""How far a model's maps can be trusted: what was measured of each method, and some maps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cxr_core import overlays
from cxr_core.attribution import explain, get_method, list_methods
from cxr_core.cards import ModelCard
from cxr_core.errors import CxrError, DataError
from cxr_core.evaluation import LabelReport
from cxr_core.explanations import (
    DEPENDS,
    FAITHFUL,
    LEAST_BOXES,
    NOT_ASSESSABLE,
    POINTS,
    ExplanationReport,
    Faithfulness,
    Gain,
    Localisation,
    Measured,
    Randomisation,
)
from cxr_core.images import load_radiograph
from cxr_core.preprocess import place, prepare, restore
from cxr_core.ranking import Interval
from cxr_core.ui import charts, session
from cxr_core.ui.dashboard.subject import Subject, draw, heading, note, palette, shown
from cxr_core.ui.datafolder import fence
from cxr_core.ui.gallery import find_source
from cxr_core.ui.numerals import with_bounds, words
from cxr_core.ui.widgets import plain
from cxr_core.wording import spoken

SIDE = 300  # pixels of the longest side of a film in the gallery
DRAWN = "maps-drawn"  # where a reader's own gallery is kept
# Verdicts in which a method may be used for what it is asked; the others are to be heeded.
GOOD = {POINTS, FAITHFUL, DEPENDS}
NOT_MEASURED = "not measured"


def explanations(subject: Subject, one: LabelReport) -> None:
    """Show the report card of one finding's maps, its curves, and maps of some test films."""
    card = subject.card
    if card is None:
        note("These scores came from elsewhere: there is no network whose maps could be measured.")
        return
    found = session.explanations(card)
    if found is None:
        note(
            "Nobody has measured this model's explanations. This command does: "
            f"python -m cxr_core faithfulness --model {card.name} --data FOLDER"
        )
    else:
        _report_card(*found, card, one.label)
    _gallery(subject, card, one.label)


def _report_card(report: ExplanationReport, current: bool, card: ModelCard, label: str) -> None:
    entries = [entry for entry in report.entries if entry.label == label]
    _summary(report, current, card, label, entries)
    if entries:
        st.html(_methods_table(entries))
    if len(report.labels) > 1:
        heading("All findings", "what the score follows · where the map points")
        st.html(_labels_table(report))
    if entries:
        _figures(entries)
    settings = report.settings
    note(
        f"Each film is cut into {settings.grid} x {settings.grid} cells, exchanged in "
        f"{settings.steps} steps ({settings.replaced_by}: deletion from the film to the blur, "
        "insertion from the blur to the film). Gains are areas between curves of the "
        f"{settings.scale}, means over films with 95 % bootstrap intervals; above 0 the map's "
        "order is better. The score follows a map when deletion and insertion each alone do "
        "better, with the whole interval, than random orders and than centre first. "
        "A map points when its peak lies in readers' boxes more often than the best fixed point, "
        f"chosen from the other films' boxes. Measured on {report.date} by {report.command}"
    )


def _summary(
    report: ExplanationReport,
    current: bool,
    card: ModelCard,
    label: str,
    entries: Sequence[Measured],
) -> None:
    """Say in words what may be believed, before any figure."""
    told = _headline(entries) if entries else f"Nothing was measured for {spoken(label)}."
    stale = ""
    if not current:
        other = f"version {report.version}; this is {card.version}"
        same = report.version == card.version
        stale = f"Measured on {'other weights than these' if same else other}: measure it again. "
    notes = " ".join(report.notes)
    st.html(
        f'<section class="cxr-summary"><p class="cxr-note">{escape(stale)}{escape(card.name)}, '
        f"{_films(entries)} the {escape(report.part)} part of {escape(report.data)}"
        f"{_and_boxed(entries)}.</p><h1>{escape(told)}</h1>"
        f'<p class="cxr-note">{escape(notes)}</p></section>'
    )


def _films(entries: Sequence[Measured]) -> str:
    counts = [entry.faithfulness.films for entry in entries if entry.faithfulness is not None]
    return f"{max(counts)} films of" if counts else "films of"


def _and_boxed(entries: Sequence[Measured]) -> str:
    judged = [entry.localisation for entry in entries if entry.localisation is not None]
    if not any(found.hits is not None for found in judged):
        return ""
    return f", and {judged[0].films} films with boxes, which trained nothing"


def _headline(entries: Sequence[Measured]) -> str:
    faithful = _named(entry for entry in entries if _verdict(entry.faithfulness) == FAITHFUL)
    points = _named(entry for entry in entries if _verdict(entry.localisation) == POINTS)
    first = f"Faithful to the score: {faithful or 'none'}."
    judged = any(_verdict(entry.localisation) not in ("", NOT_ASSESSABLE) for entry in entries)
    if not judged:
        boxes = max(
            (entry.localisation.boxes for entry in entries if entry.localisation), default=0
        )
        why = f"{boxes} of at least {LEAST_BOXES} boxes" if boxes else "no boxes"
        return f"{first} Where they point cannot be assessed ({why})."
    return f"{first} Fit to localise: {points or 'none'}."


def _named(entries: Iterable[Measured]) -> str:
    return ", ".join(_title(entry.method) for entry in entries)


def _title(method: str) -> str:
    return get_method(method).title if method in list_methods() else method


def _verdict(part: Faithfulness | Localisation | Randomisation | None) -> str:
    return "" if part is None else part.verdict


# --- tables ---


def _methods_table(entries: Sequence[Measured]) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "Method",
            "Does the score follow it?",
            "Deletion, gain over",
            "Insertion, gain over",
            "Does it point?",
            "Hits and floors",
            "Weights shuffled",
            "Another seed",
        )
    )
    rows = "".join(map(_row, entries))
    return f'<table class="cxr-table numbers"><tr>{head}</tr>{rows}</table>'


def _row(entry: Measured) -> str:
    found, place_, fall = entry.faithfulness, entry.localisation, entry.randomisation
    again = entry.repeatability
    cells = (
        _judged(found),
        _gains(found.deletion) if found else "",
        _gains(found.insertion) if found else "",
        _judged(place_) if place_ else NOT_ASSESSABLE + "<br><small>no boxes</small>",
        _hits(place_) if place_ else "",
        _fall(fall),
        with_bounds(again.similarity) if again else NOT_MEASURED,
    )
    name = escape(_title(entry.method))
    return f'<tr data-method="{escape(entry.method)}"><th scope="row">{name}</th>' + "".join(
        f"<td>{cell}</td>" for cell in (*cells,)
    )


def _judged(part: Faithfulness | Localisation | None) -> str:
    """Write a verdict in words, good ones strong, and its reason below."""
    if part is None:
        return NOT_MEASURED
    word = f"<strong>{part.verdict}</strong>" if part.verdict in GOOD else part.verdict
    return f'{word}<br><small class="meaning">{escape(part.reason)}</small>'


def _gains(gain: Gain) -> str:
    return (
        f"{_signed(gain.over_random)} <small>random</small><br>"
        f"{_signed(gain.over_centre)} <small>centre first</small>"
    )


def _signed(interval: Interval) -> str:
    value, _ = words(interval)
    plus = "+" if interval.value is not None and interval.value > 0 else ""
    between = "" if interval.low is None else f"{interval.low:.2f} to {interval.high:.2f}"
    return f"{plus}{value} <small>{between}</small>"


def _hits(found: Localisation) -> str:
    if found.hits is None or found.pointing is None or found.iou is None:
        return ""
    return (
        f"{found.hits} of {found.films} <small>{words(found.pointing)[1]}</small><br>"
        f"<small>centre {found.centre_hits}, fixed point {found.point_hits}</small><br>"
        f"IoU {words(found.iou)[0]} <small>fixed box {found.box_iou:.2f}</small>"
    )


def _fall(found: Randomisation | None) -> str:
    if found is None or not found.stages:
        return NOT_MEASURED
    told = f"likeness {words(found.stages[-1].similarity)[0]}"
    if found.verdict == NOT_ASSESSABLE:
        told = found.reason
    word = f"<strong>{found.verdict}</strong>" if found.verdict in GOOD else found.verdict
    return f'{word}<br><small class="meaning">{told}</small>'


def _labels_table(report: ExplanationReport) -> str:
    head = "".join(f'<th scope="col">{escape(_title(name))}</th>' for name in report.methods)
    rows = "".join(
        f'<tr data-label="{escape(label)}"><th scope="row">{escape(shown(label))}</th>'
        + "".join(f"<td>{_both(report.entry(name, label))}</td>" for name in report.methods)
        + "</tr>"
        for label in report.labels
    )
    return f'<table class="cxr-table numbers"><tr><th></th>{head}</tr>{rows}</table>'


def _both(entry: Measured | None) -> str:
    if entry is None:
        return f"<small>{NOT_MEASURED}</small>"
    told = [_verdict(entry.faithfulness), _verdict(entry.localisation)]
    return " · ".join(f"<strong>{word}</strong>" if word in GOOD else word for word in told if word)


# --- figures ---


def _figures(entries: Sequence[Measured]) -> None:
    """Draw the curves of one method, and how all fall with the weights."""
    by_name = {entry.method: entry for entry in entries if entry.faithfulness}
    if not by_name:
        return
    asked, _ = st.columns([1, 2])
    with asked:
        chosen = st.selectbox("Curves of", list(by_name), format_func=_title, key="curves-of")
    found = by_name[chosen].faithfulness
    if found is None:
        return
    first, second, third = st.columns(3, gap="medium")
    for column, gain, name in (
        (first, found.deletion, "Deletion"),
        (second, found.insertion, "Insertion"),
    ):
        with column:
            better = "the lower the better" if name == "Deletion" else "the higher the better"
            heading(name, f"{better}, {found.films} films")
            draw(charts.exchange_chart(gain, name, _title(chosen), palette()), name)
    with third:
        heading("Weights shuffled from the top down", "must fall below 0.5")
        falls = {
            _title(entry.method): entry.randomisation
            for entry in entries
            if entry.randomisation is not None
        }
        draw(charts.cascade_chart(falls, palette()), "Weights shuffled")


# --- maps of some films ---


@dataclass(frozen=True)
class _Drawn:
    """The maps of one film: what it is, and a picture for each method."""

    told: str
    pictures: dict[str, bytes]


def _gallery(subject: Subject, card: ModelCard, label: str) -> None:
    """Draw every method on a few test films, when asked to."""
    heading("Maps of some test films", "computed here, shown to you alone")
    try:
        limit = fence()
    except DataError as error:
        note(f"No pictures. {error}")
        return
    if limit is None:
        note(
            "No pictures: set the environment variable CXR_DATA to the folder that holds the "
            "films, and start the app again."
        )
        return
    key = (card.name, card.version, label)
    kept: dict[tuple[str, str, str], list[_Drawn]] = st.session_state.setdefault(DRAWN, {})
    seconds = "This computes every method anew and may take a minute or more."
    if key not in kept and st.button("Draw the maps", help=seconds):
        bar = st.progress(0.0, "Finding the films")
        try:
            found = find_source(limit, subject.table.files)
            if found is None:
                raise DataError(f"The films of {card.name} do not lie in '{limit}' (CXR_DATA).")
            rows = _examples(subject, label)
            paths = [(row, found.path(subject.table.files[row])) for row in rows]
            kept.clear()  # one gallery at a time
            kept[key] = [
                _draw_film(card, label, path, _told(subject, label, row), part)
                for part, (row, path) in zip(_parts(bar, len(paths)), paths, strict=True)
            ]
        except (CxrError, OSError) as error:
            st.error(plain(str(error)))
        finally:
            bar.empty()
        if key in kept:
            st.rerun()  # without the button
    for film in kept.get(key, []):
        note(film.told)
        for column, (name, picture) in zip(
            st.columns(len(film.pictures)), film.pictures.items(), strict=True
        ):
            column.image(picture, caption=name, width="stretch", alt=f"{name} of {film.told}")


def _parts(bar: DeltaGenerator, films: int) -> list[Callable[[float, str], None]]:
    """Give each film its stretch of the progress bar."""

    def stretch(place_: int) -> Callable[[float, str], None]:
        def tell(share: float, text: str) -> None:
            bar.progress((place_ + share) / films, text)

        return tell

    return [stretch(place_) for place_ in range(films)]


def _examples(subject: Subject, label: str) -> list[int]:
    """Choose three films: found with certainty, found or missed narrowly, and the worst alarm."""
    column = subject.table.labels.index(label)
    truth, scores = subject.table.y_true[:, column], subject.table.y_score[:, column]
    order = np.argsort(-scores, kind="stable")
    positives, negatives = order[truth[order] == 1], order[truth[order] == 0]
    return [
        *(int(positives[len(positives) * part // 100]) for part in (5, 50) if len(positives)),
        *(int(row) for row in negatives[:1]),
    ]


def _told(subject: Subject, label: str, row: int) -> str:
    column = subject.table.labels.index(label)
    has = "with" if subject.table.y_true[row, column] else "without"
    name = subject.table.files[row].rpartition("/")[2]
    score = subject.table.y_score[row, column]
    return f"{name}: {has} {spoken(label)}, probability {score:.2f}"


def _draw_film(
    card: ModelCard, label: str, path: Path, told: str, tell: Callable[[float, str], None]
) -> _Drawn:
    """Explain one film by every method, cheapest first."""
    radiograph = load_radiograph(path)
    classifier = session.classifier(card)
    model_input = prepare(radiograph, card.preprocessing)
    features = classifier.predict(model_input).features
    grey = overlays.thumbnail(radiograph.pixels, SIDE).astype(np.float32) / 255
    height, width = grey.shape
    placement = place(height, width, card.preprocessing)
    pictures = {"Film": overlays.png(overlays.to_grey(grey))}
    names = list_methods()
    for done, name in enumerate(names):
        method = get_method(name)
        tell(done / len(names), f"{method.title} on {told.partition(':')[0]}")
        found = explain(classifier, model_input, label, name, features=features)
        values = restore(found.values, placement)
        pictures[method.title] = overlays.png(overlays.overlay(grey, values, signed=found.signed))
    return _Drawn(told, pictures)
