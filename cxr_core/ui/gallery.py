"""The parts of the films page: the test films behind a number, a page of them at a time.

Scores come from a model's public record; its films, where CXR_DATA says they are. What one
reader looks at, pictures included, belongs to that reader (`Gallery`). Nothing here needs
TensorFlow: a film is read by the model on the reading page, once it was opened there.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from math import ceil, floor
from pathlib import Path
from typing import Any

import streamlit as st

from cxr_core import overlays
from cxr_core.cards import ModelCard, split_integrity
from cxr_core.errors import CxrError, DataError
from cxr_core.images import load_radiograph
from cxr_core.predictions import PredictionTable
from cxr_core.ui import journal, readfirst, selection, session
from cxr_core.ui.datafolder import fence, inside, note
from cxr_core.ui.journal import COMMENTED, Remarks
from cxr_core.ui.selection import Asked, Choice, Group, Selection, ask, select
from cxr_core.ui.widgets import belonging, choose_model, plain
from cxr_core.wording import spoken

__all__ = ["Asked", "ask"]  # these too are asked for here

SIDE = 240  # pixels of the longest side of a thumbnail
MOST_PICTURES = 10 * selection.PAGE  # held for one reader, some 40 KB each
PROBED = 50  # films of a table that are looked for in a folder
COLUMNS = 5  # choosers in a row


@dataclass(frozen=True)
class Source:
    """Where the films of a record lie: in `root`, and never outside of `limit`."""

    limit: Path
    root: Path

    def path(self, file: str) -> Path:
        """Return where a film of the record lies, links and ".." followed.

        Raises:
            DataError: When its name leads out of `limit`, or to no file.
        """
        try:
            path = inside(str(self.root / file), self.limit)
        except DataError as error:
            raise DataError(
                f"'{file}' leads out of the data folder and was not opened: mend predictions.csv."
            ) from error
        if not os.path.isfile(path):
            raise DataError(f"There is no such film in the folder '{self.root.name}'.")
        return path


@dataclass
class Gallery:
    """What one reader looks at.

    Attributes:
        asked: The films on screen; None before the first visit.
        written: The parameters that the page gave its own address.
        pictures: Thumbnails as PNG by path, those looked at last at the end.
        sources: Where the films of a record lie, by model, version and CXR_DATA; None when
            they are not there.
        opened: Whether a film waits on the reading page.
        problem: Why a film could not be opened; "" when it could.
    """

    asked: Asked | None = None
    written: dict[str, str] = field(default_factory=dict)
    pictures: OrderedDict[Path, bytes] = field(default_factory=OrderedDict)
    sources: dict[tuple[str, str, Path], Source | None] = field(default_factory=dict)
    opened: bool = False
    problem: str = ""


def current() -> Gallery:
    """Return what this reader looks at, made on first use."""
    state = st.session_state
    if "gallery" not in state:
        state["gallery"] = Gallery()
    found: Gallery = state["gallery"]
    return found


# --- what is asked for ---


def arrive(cards: Sequence[ModelCard]) -> None:
    """Take up what another page or a link asks for, and leave when a film was opened.

    Raises:
        UnknownName: When a link names what does not exist.
        ArgumentError: When a link asks for what cannot be.
    """
    state = current()
    if state.opened:
        state.opened = False
        st.switch_page("pages/read.py")
    news = st.session_state.pop(selection.NEWS, None) or _linked(state, cards)
    if news is not None:
        selection.require_fitting(news, selection.named(cards, news.model))
        st.session_state["model"] = news.model
        state.asked = news


def _linked(state: Gallery, cards: Sequence[ModelCard]) -> Asked | None:
    """Read the page's address, unless the page wrote it itself."""
    told = {name: st.query_params[name] for name in selection.PARAMETERS & set(st.query_params)}
    if not told or told == state.written:
        return None
    return selection.from_parameters(told, cards)


def way_out() -> None:
    """Offer to leave a link that asks for what cannot be shown."""
    if selection.PARAMETERS & set(st.query_params):
        st.button("Leave this link", on_click=_leave)


def _leave() -> None:
    current().asked = None
    for name in selection.PARAMETERS & set(st.query_params):
        del st.query_params[name]


def choose(cards: Sequence[ModelCard]) -> tuple[ModelCard, Selection]:
    """Ask which films; write the answer into the page's address."""
    state = current()
    places = iter([*st.columns(COLUMNS), *st.columns(COLUMNS)])
    with next(places) if len(cards) > 1 else st.container():
        card = choose_model(cards)
    if state.asked is None:
        state.asked = selection.first(card)
    elif state.asked.model != card.name:
        state.asked = selection.turned(state.asked, card)
    _mirror(state, state.asked)
    table = session.record(card).table
    remarks = journal.remarks(card.name)
    found = select(state.asked, card, table, remarks)
    for ask_one in _choosers(found, card, table, remarks):
        with next(places):
            ask_one()
    return card, found


def _mirror(state: Gallery, asked: Asked) -> None:
    """Let the page's address say what it shows; what others wrote there stays."""
    state.written = selection.to_parameters(asked)
    now = st.query_params.to_dict()
    others = {name: told for name, told in now.items() if name not in selection.PARAMETERS}
    if now != others | state.written:
        st.query_params.from_dict(others | state.written)


def _choosers(
    found: Selection, card: ModelCard, table: PredictionTable, remarks: Remarks
) -> list[Callable[[], object]]:
    """List the choosers that have something to choose from."""
    groups = selection.groups(table)
    return [
        *([lambda: _ask_label(found, card)] if len(card.labels) > 1 else []),
        lambda: _ask_choice(found, card, counted=not _leak(card)),
        lambda: _ask_order(found),
        lambda: _ask_scores(found),
        lambda: _ask_text(found),
        *([lambda: _ask_group(found, groups)] if groups else []),
        *([lambda: _ask_remark(found)] if remarks or found.asked.remark else []),
    ]


def _seed(key: str, value: Any, change: Callable[[Any], Asked]) -> dict[str, Any]:
    """Return what makes a chooser show `value`, and a choice change what is asked for."""
    st.session_state[key] = value

    def follow() -> None:
        current().asked = change(st.session_state[key])

    return {"key": key, "on_change": follow}


def _ask_label(found: Selection, card: ModelCard) -> None:
    st.selectbox(
        "Finding",
        card.labels,
        format_func=lambda name: name.replace("_", " "),
        **_seed(
            "films-label",
            found.asked.scored,
            lambda label: selection.turned(found.asked, card, label),
        ),
    )


def _ask_choice(found: Selection, card: ModelCard, counted: bool) -> None:
    def name(choice: Choice) -> str:
        named = selection.choice_name(choice, card, found.asked.scored)
        return f"{named} ({found.counts[choice]:,})" if counted else named

    st.selectbox(
        "Films",
        list(found.counts),
        format_func=name,
        **_seed("films-choice", found.asked.choice, found.asked.choosing),
    )


def _ask_order(found: Selection) -> None:
    st.selectbox(
        "Order",
        selection.ORDERS,
        format_func=lambda order: selection.order_name(order, found.asked.choice),
        **_seed(
            "films-order",
            found.asked.order,
            lambda order: replace(found.asked, order=order, page=1),
        ),
    )


def _ask_scores(found: Selection) -> None:
    # The hundredths around what was asked for; the films are those of every digit. Rounding
    # first keeps 0.29, whose hundredfold falls short of 29, where the reader put it.
    low, high = (round(100 * bound, 6) for bound in (found.asked.low, found.asked.high))
    st.slider(
        "Score",
        0.0,
        1.0,
        step=0.01,
        **_seed(
            "films-scores",
            (floor(low) / 100, ceil(high) / 100),
            lambda both: replace(found.asked, low=both[0], high=both[1], page=1),
        ),
    )


def _ask_text(found: Selection) -> None:
    st.text_input(
        "Patient or file",
        max_chars=200,
        placeholder="any",
        **_seed(
            "films-text", found.asked.text, lambda text: replace(found.asked, text=text, page=1)
        ),
    )


def _ask_group(found: Selection, groups: Sequence[Group]) -> None:
    st.selectbox(
        "Subgroup",
        [None, *groups],
        format_func=lambda group: "All" if group is None else selection.group_name(group),
        **_seed(
            "films-group",
            found.asked.group,
            lambda group: replace(found.asked, group=group, page=1),
        ),
    )


def _ask_remark(found: Selection) -> None:
    names = {
        "": "Any",
        COMMENTED: "With a comment",
        "agree": "Agreed",
        "disagree": "Disagreed",
        "changed my mind": "Changed their mind",
    }
    st.selectbox(
        "Readers said",
        list(selection.REMARKS),
        format_func=names.__getitem__,
        **_seed(
            "films-remark",
            found.asked.remark,
            lambda remark: replace(found.asked, remark=remark, page=1),
        ),
    )


# --- what is shown ---


def summary(card: ModelCard, found: Selection) -> None:
    """Say in words which films these are, whether their split leaks, and what went wrong."""
    state = current()
    if state.problem:
        st.error(plain(state.problem))
        state.problem = ""
    belonging(card)
    split = session.record(card).report.split
    named = f"{card.name}, version {card.version}, {split} split"
    leak = _leak(card)
    warning = f'<p class="cxr-note">{escape(leak)}</p>' if leak else ""
    st.html(
        '<section class="cxr-summary" role="status" aria-label="Films"><p class="cxr-note">'
        f"{escape(named)}</p><h1>{escape(selection.in_words(found, card, split))}</h1>"
        f"{warning}</section>"
    )


def _leak(card: ModelCard) -> str:
    """Say that the training saw some of the films; "" where none is known to leak."""
    integrity = split_integrity(card, session.record(card).table)
    return integrity.sentences[0] if integrity.leaks else ""


def show(card: ModelCard, found: Selection) -> None:
    """Draw one page of the films, each with its picture where there is one.

    Raises:
        ArgumentError: When there is no such page of them.
    """
    table = session.record(card).table
    rows = found.shown()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="turning"):
        _turning(found)
        if found.asked.threshold is not None:
            again = (found.asked, card)
            st.button("The model's own rule", on_click=_rule, args=again, type="tertiary")
    source = _source(card, table)
    opens = source is not None and _opens(card)
    with st.container(horizontal=True, key="gallery"):
        for row in map(int, rows):
            with st.container(key=f"film-{row}"):
                if source is not None:
                    _picture(card, found, table, row, source)
                _caption(card, found, table, row)
                if source is not None and opens:
                    _offer(card, found.asked.scored, table.files[row], source)


def _turning(found: Selection) -> None:
    """Say which of the films are on this page, and turn it."""
    number, page = len(found.rows), found.asked.page
    start = selection.PAGE * (page - 1) + 1
    end = min(start + selection.PAGE - 1, number)
    which = f"{start:,}-{end:,} of {number:,}" if number else "No film: choose others above."
    st.html(f'<p class="cxr-note">{which}</p>', width="content")
    if found.pages == 1:
        return
    for name, step in (("Previous", -1), ("Next", 1)):
        st.button(
            name,
            on_click=_turn,
            args=(found.asked, page + step),
            disabled=not 1 <= page + step <= found.pages,
            type="tertiary",
        )


def _rule(asked: Asked, card: ModelCard) -> None:
    """Forget a threshold; where the model has no rule of its own, no cell is left either."""
    cell = selection.turned(asked, card).cell
    current().asked = replace(asked, threshold=None, cell=cell, page=1)


def _turn(asked: Asked, page: int) -> None:
    current().asked = replace(asked, page=page)


def _caption(card: ModelCard, found: Selection, table: PredictionTable, row: int) -> None:
    """Write the score of one film, what is true of it, whose it is and what it is called."""
    name, patient = table.files[row].rpartition("/")[2], table.patients[row]
    state = selection.state_in_words(found, card, table, row)
    alarm = "flag" if selection.raises_alarm(found, card, row) else "clear"
    whose = "" if patient == table.files[row] else f"{_broken(patient)}<br>"
    st.html(
        f'<div class="cxr-film {alarm}"><p class="head"><span class="number">'
        f"{escape(selection.score_in_words(found, card, row))}</span>"
        f'<span class="state">{escape(state)}</span></p>'
        f"<p>{escape(selection.truth_in_words(found, card, table, row))}</p>"
        f'<p class="cxr-note">{whose}{_broken(name)}</p></div>'
    )


def _broken(name: str) -> str:
    """Let a long name break between its words."""
    return escape(name).replace("_", "_<wbr>")


# --- pictures ---


def _source(card: ModelCard, table: PredictionTable) -> Source | None:
    """Find the films of a record; where there are none to see, say so once and how to."""
    state = current()
    try:
        limit = fence()
        if limit is None:
            note(
                "No pictures: set the environment variable CXR_DATA to the folder that holds the "
                "films, and start the app again."
            )
            return None
        key = (card.name, card.version, limit)
        if key not in state.sources:
            state.sources[key] = find_source(limit, table.files)
    except DataError as error:
        note(f"No pictures. {error}")
        return None
    if state.sources[key] is None:
        note(
            f"No pictures: the films of {card.name} lie neither in {limit} (CXR_DATA) nor in a "
            "folder of it."
        )
    return state.sources[key]


def find_source(limit: Path, files: Sequence[str]) -> Source | None:
    """Find the folder that holds most of some films: `limit`, or one directly inside it.

    Args:
        limit: Outside of it nothing is looked at, resolved.
        files: Names of films, relative to the folder that is looked for.

    Returns:
        None when no folder holds any.

    Raises:
        DataError: When `limit` cannot be read.
    """
    try:
        inner = sorted(path.resolve() for path in limit.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(f"'{limit}' (CXR_DATA) cannot be read: {error.strerror}.") from error
    roots = [limit, *(path for path in inner if path.is_relative_to(limit))]
    probes = files[:: -(-len(files) // PROBED)]
    held, _, best = max(
        (sum(_holds(Source(limit, root), file) for file in probes), -place, root)
        for place, root in enumerate(roots)
    )
    return Source(limit, best) if held else None


def _holds(source: Source, file: str) -> bool:
    try:
        return bool(source.path(file))
    except DataError:
        return False


def _picture(
    card: ModelCard, found: Selection, table: PredictionTable, row: int, source: Source
) -> None:
    """Show one film small, or why it cannot be shown."""
    try:
        picture = _thumbnail(current(), source.path(table.files[row]))
    except CxrError as error:
        st.html(f'<p class="cxr-note cxr-missing">{escape(str(error))}</p>')
        return
    truth = selection.truth_in_words(found, card, table, row)
    score = selection.score_in_words(found, card, row)
    alt = f"{truth}, score {score} for {spoken(found.asked.scored)}"
    st.image(picture, alt=alt, width="stretch", output_format="PNG")


def _thumbnail(state: Gallery, path: Path) -> bytes:
    """Return a film as a small PNG; the few looked at last are held, for one reader only."""
    if path not in state.pictures:
        grey = overlays.thumbnail(load_radiograph(path).pixels, SIDE)
        state.pictures[path] = overlays.png(grey)
        if len(state.pictures) > MOST_PICTURES:
            state.pictures.popitem(last=False)
    state.pictures.move_to_end(path)
    return state.pictures[path]


# --- to the reading page ---


def _opens(card: ModelCard) -> bool:
    """Say whether a model reads films; where it does not, tell why."""
    if card.name in {one.name for one in session.for_reading()}:
        return True
    note(f"{card.name} repeats what others published and reads no films here; none can be opened.")
    return False


def _offer(card: ModelCard, label: str, file: str, source: Source) -> None:
    """Offer to open one film where the model reads it."""
    st.button(
        "Open film",
        key=f"open-{file}",
        help=f"Read {plain(file)} with {card.name}",
        on_click=_open,
        args=(card, label, file, source),
        type="tertiary",
    )


def _open(card: ModelCard, label: str, file: str, source: Source) -> None:
    """Put a film on the reading page, with the model and the finding it was looked at for."""
    state, screen = current(), session.current()
    try:
        name = file.rpartition("/")[2]
        screen.add(name, load_radiograph(source.path(file)), test_film=file)
    except CxrError as error:
        state.problem = str(error)
        return
    screen.failures = []
    if screen.chosen is not None:
        readfirst.current().told.add(readfirst.question(screen.chosen, card))
    st.session_state["model"] = card.name
    if len(card.labels) > 1:
        st.session_state[f"finding-{card.name}-{screen.chosen}"] = label
    state.opened = True
