"""The parts of the data folder page: what a folder holds, and whether its splits can be trusted.

A folder is indexed once, when it is asked for. What was found, and the few films drawn from
it, belong to one reader (`Looking`): nothing of a folder enters a cache that others share.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from cxr_core import overlays
from cxr_core.addresses import is_loopback
from cxr_core.datasets import (
    DatasetIndex,
    Film,
    Inspection,
    Progress,
    cooccurrence,
    index,
    inspect,
    list_layouts,
    read_film,
    summarise,
)
from cxr_core.errors import CxrError, DataError
from cxr_core.figures import PALETTES, Palette
from cxr_core.ui.record import theme
from cxr_core.ui.widgets import fact_table

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
DETECT = "Detect"
NOTHING = "(none)"  # what a summary calls films on which nothing was found
SPLITS = ("train", "validation", "test")
PER_FINDING = 4
SAMPLE_SIDE = 320  # pixels of the longest side of a sample film
MOST_NAMES = 4  # of patients or files that one line names
MOST_ROWS = 8  # of sizes or unreadable files
NUMBERS = ("no", "one", "two", "three")


@dataclass(frozen=True)
class Sample:
    """One film drawn from a folder: its picture as PNG, or why there is none."""

    film: Film
    picture: bytes | None
    reason: str = ""


@dataclass
class Folder:
    """A folder that was looked at.

    Attributes:
        dataset: Its films.
        summary: Its counts, as `summarise` gives them.
        inspection: What decoding every film told; None before.
        draw: Counts the draws of sample films.
        samples: The films of this draw, by finding.
    """

    dataset: DatasetIndex
    summary: dict[str, Any]
    inspection: Inspection | None = None
    draw: int = 0
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def draw_others(self) -> None:
        """Have other films drawn."""
        self.draw += 1
        self.samples.clear()


@dataclass
class Looking:
    """What one reader looks at: a folder, or none yet."""

    folder: Folder | None = None


def current() -> Looking:
    """Return what this reader looks at, made on first use."""
    state = st.session_state
    if "looking" not in state:
        state["looking"] = Looking()
    found: Looking = state["looking"]
    return found


# --- which folder ---


def fence() -> Path | None:
    """Return the folder that CXR_DATA names, outside of which no folder is opened.

    None when it is unset and the app answers this machine only: whoever can open the page
    could then read the folder anyway.

    Raises:
        DataError: When the app is served to others and CXR_DATA is unset, or is no folder.
    """
    named = os.environ.get("CXR_DATA")
    if not named:
        if not is_loopback(st.get_option("server.address") or "") or _handed_on():
            raise DataError(
                "This app is served to other machines, so its folders are not open to all: set "
                "the environment variable CXR_DATA to the one folder that may be looked at, and "
                "start the app again."
            )
        return None
    folder = _resolved(Path(named), named)
    if not folder.is_dir():
        raise DataError(
            f"The environment variable CXR_DATA names '{named}', which is no folder. Set it to "
            "the folder that holds the data, and start the app again."
        )
    return folder


def _handed_on() -> bool:
    """Say whether the page was asked for through another server, by whomever."""
    headers = st.context.headers
    host = (headers.get("Host") or "127.0.0.1").rsplit(":", 1)[0].strip("[]")
    return not is_loopback(host) or any(name in headers for name in FORWARDED)


def inside(text: str, limit: Path | None) -> Path:
    """Turn what was typed into a folder, links and ".." followed.

    Args:
        text: As typed; a name without a leading slash is looked up in `limit`.
        limit: Where the folder must lie; None for anywhere.

    Raises:
        DataError: When nothing was typed, or what was typed leads out of `limit`.
    """
    if not text.strip():
        raise DataError("Name the folder that holds the films.")
    folder = _resolved((limit or Path()) / text.strip(), text.strip())
    if limit is not None and not folder.is_relative_to(limit):
        raise DataError(
            f"'{text.strip()}' leads out of '{limit}', the one folder that may be looked at here "
            "(CXR_DATA). Name a folder inside it."
        )
    return folder


def _resolved(path: Path, text: str) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # loops of links, NUL characters
        raise DataError(f"'{text}' is no path of a folder. Name an existing folder.") from error


def choose(looking: Looking) -> Folder | None:
    """Ask which folder; index it when the button is pressed, and keep what was found."""
    limit = fence()
    with st.form("folder", border=False):
        first, second, third = st.columns([6, 2, 1], vertical_alignment="bottom")
        text = first.text_input(
            "Folder that holds the films",
            value=str(limit or ""),
            placeholder="for example /data/chest_films",
            key="folder",
            persist_state="session",
        )
        named = second.selectbox(
            "Layout", [DETECT, *list_layouts()], key="layout", persist_state="session"
        )
        asked = third.form_submit_button("Look", width="stretch")
    where = f"Only folders inside {limit} may be named. " if limit else ""
    note(f"{where}Paths are those of the machine that runs this app. Nothing is changed there.")
    place = st.empty()
    if asked:
        looking.folder = None
        layout = None if named == DETECT else named
        looking.folder = _look(inside(text or "", limit), layout, place, limit)
    return looking.folder


def _look(
    folder: Path, layout: str | None, place: DeltaGenerator, limit: Path | None = None
) -> Folder:
    """Index a folder, and say meanwhile how far that is."""
    try:
        if limit is not None:
            _check_links(folder, limit)
        dataset = index(folder, layout, tell(place))
    except OSError as error:
        raise DataError(f"'{folder}' cannot be read: {error.strerror}.") from error
    finally:
        place.empty()
    return Folder(dataset, summarise(dataset))


def _check_links(folder: Path, limit: Path) -> None:
    """Refuse a folder of which any link leads out of `limit`, before a file of it is opened.

    Raises:
        DataError: Naming the link.
    """
    seen, left = {folder}, [folder]
    while left:
        with os.scandir(left.pop()) as entries:
            found = list(entries)
        for entry in found:
            path = Path(entry.path)
            target = _resolved(path, str(path)) if entry.is_symlink() else path
            if not target.is_relative_to(limit):
                raise DataError(
                    f"'{path.relative_to(limit)}' is a link that leads out of '{limit}', the one "
                    "folder that may be looked at here (CXR_DATA). Take the link away, or put "
                    "what it names in its place."
                )
            if entry.is_dir() and target not in seen:
                seen.add(target)
                left.append(target)


def tell(place: DeltaGenerator) -> Progress:
    """Return a progress bar to report to; it is redrawn once for each per cent."""
    shown = -1

    def progress(what: str, done: int, total: int) -> None:
        nonlocal shown
        share = 100 * done // max(total, 1)
        if share != shown:
            place.progress(share, f"{what}: {done:,} of {total:,}")
            shown = share

    return progress


# --- in words ---


def summary(folder: Folder) -> None:
    """Say first what the folder holds and whether a split leaks, then what to know of it."""
    held, leak = in_words(folder)
    notes = "".join(f"<p>{escape(note)}</p>" for note in folder.summary["notes"])
    named = f"{folder.dataset.root}, layout {folder.dataset.layout}"
    lead, headline = f'<p class="lead">{escape(named)}</p>', escape(held)
    if leak:
        what, colon, why = leak.partition(": ")
        lead += f'<p class="lead">{escape(held)}</p>'
        headline = f'<span class="verdict">{escape(what)}{colon}</span>{escape(why)}'
    st.html(
        f'<section class="cxr-answer {"flag" if leak else "clear"}" role="status" '
        f'aria-label="Summary">{lead}<h1>{headline}</h1><div class="detail">{notes}</div></section>'
    )


def in_words(folder: Folder) -> tuple[str, str]:
    """Say what a folder holds, and what its splits share; empty when they share nothing."""
    found = folder.summary
    known = len(nameless(folder.dataset.films)) < found["films"]
    patients = _count(found["patients"], "patient") if known else "unknown patients"
    held = f"{_count(found['films'], 'film')} of {patients}"
    if set(found["splits"]) == {"all"}:
        return f"{held}, not split.", ""
    held += f" in {_spell(len(found['splits']), 'split')}"
    shared, twins = leaks(folder)
    if shared or twins:
        parts = [_count(len(shared), "patient")] if shared else []
        parts += [_count(len(twins), "byte-identical film")] if twins else []
        verb = "is" if len(shared) + len(twins) == 1 else "are"
        worth = "test figures from these splits would be worth nothing"
        return f"{held}.", f"{' and '.join(parts)} {verb} in more than one split: {worth}."
    if len(found["splits"]) == 1:
        return f"{held}.", ""
    verdict = "no patient is in more than one split"
    verdict = verdict if known else "whether these share a patient cannot be told"
    return f"{held}; {verdict}.", ""


def leaks(folder: Folder) -> tuple[list[str], list[str]]:
    """Name the patients, and the byte-identical films, that more than one split holds."""
    patients = {film.patient for film in folder.dataset.films}
    shared = [name for name in folder.summary["overlap"] if name in patients]
    return shared, [name for name in folder.summary["overlap"] if name not in patients]


def nameless(films: Iterable[Film]) -> list[Film]:
    """Return the films that do not tell whose they are: each stands for a patient of its own."""
    return [film for film in films if film.patient == film.file]


def shown(finding: str) -> str:
    """Write a finding as a label."""
    return "No finding" if finding == NOTHING else finding.replace("_", " ")


def note(sentence: str) -> None:
    """Write a sentence in small."""
    st.html(f'<p class="cxr-note">{escape(sentence)}</p>')


def _title(text: str) -> None:
    st.html(f'<h2 class="cxr-title">{escape(text)}</h2>')


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def _spell(number: int, name: str) -> str:
    word = NUMBERS[number] if number < len(NUMBERS) else f"{number:,}"
    return f"{word} {name}{'s' * (number != 1)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


# --- counts ---


def counts(folder: Folder) -> None:
    """Draw how many films of each finding each split holds."""
    _title("Films by finding" + (" and split" if len(folder.summary["splits"]) > 1 else ""))
    _chart(bars(folder.summary["splits"], PALETTES[theme()]), "Films by finding and split")
    with st.expander("As a table"):
        st.html(_count_table(folder.summary["splits"]))


def _chart(spec: dict[str, Any], title: str) -> None:
    st.vega_lite_chart(spec=spec, width="stretch", alt=f"{title}; the numbers follow as a table")


def _labels(palette: Palette, size: int) -> dict[str, Any]:
    """Describe an axis that is only names."""
    plain = {"title": None, "ticks": False, "domain": False, "labelLimit": 220}
    return plain | {"labelFontSize": size, "labelColor": palette.text}


def _order(splits: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Order splits as they are used, and findings by how many films have them, none first."""
    total: Counter[str] = Counter()
    for held in splits.values():
        total.update(held["findings"])
    findings = sorted(total, key=lambda name: (name != NOTHING, -total[name], name))
    known = [name for name in SPLITS if name in splits]
    return known + sorted(set(splits) - set(known)), findings


def bars(splits: Mapping[str, Any], palette: Palette) -> dict[str, Any]:
    """Describe grouped bars in Vega-Lite; each says its split and number, whatever its shade."""
    names, findings = _order(splits)
    rows = [_bar(finding, split, splits[split], names) for finding in findings for split in names]
    shades = [palette.accent, palette.cleared, palette.text, palette.muted]
    shade = {"domain": names, "range": shades if len(names) > 1 else shades[1:]}
    room = 1.35 * max(row["films"] for row in rows)  # for the words at the end of the longest bar
    labels = _labels(palette, 14)
    return {
        "data": {"values": rows},
        "height": (24 * len(names) + 10) * len(findings),
        "encoding": {
            "y": {
                "field": "finding",
                "type": "nominal",
                "sort": [shown(finding) for finding in findings],
                "axis": labels,
                "scale": {"paddingInner": 0.25},
            },
            "yOffset": {"field": "split", "type": "nominal", "sort": names},
            "x": {
                "field": "films",
                "type": "quantitative",
                "axis": None,
                "scale": {"domain": [0, room]},
            },
        },
        "layer": [
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 2},
                "encoding": {"color": {"field": "split", "scale": shade, "legend": None}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 13},
                "encoding": {"text": {"field": "label"}, "color": {"value": palette.text}},
            },
        ],
    }


def _bar(finding: str, split: str, held: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    films = held["findings"].get(finding, 0)
    label = f"{films:,} {_split(split, names)}" if len(names) > 1 else f"{films:,}"
    return {"finding": shown(finding), "split": split, "films": films, "label": label}


def _split(name: str, names: Sequence[str]) -> str:
    """Write a split; "all" are the films without one."""
    if name != "all":
        return name
    return "all films" if len(names) == 1 else "no split"


def _count_table(splits: Mapping[str, Any]) -> str:
    """Write the numbers of the bars as HTML, with films and patients of each split below."""
    names, findings = _order(splits)
    lines = {shown(f): [splits[s]["findings"].get(f, 0) for s in names] for f in findings}
    lines |= {what.capitalize(): [splits[s][what] for s in names] for what in ("films", "patients")}
    return _table([_split(name, names).capitalize() for name in names], lines)


def _table(columns: Sequence[str], lines: Mapping[str, Sequence[int]]) -> str:
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f'<td class="number">{number:,}</td>' for number in numbers)
        + "</tr>"
        for name, numbers in lines.items()
    )
    return f'<table class="cxr-table"><tr><th></th>{head}</tr>{rows}</table>'


# --- whether the splits can be trusted ---


def integrity(folder: Folder) -> None:
    """List what a reader must know before a figure from these splits means anything."""
    _title("Integrity")
    st.html(fact_table(facts(folder)))


def facts(folder: Folder) -> dict[str, str]:
    """Put the checks of a folder in words, one line each; empty where there is nothing to say."""
    found, films = folder.summary, folder.dataset.films
    names, unknown = _order(found["splits"])[0], nameless(films)
    shared, twins = leaks(folder)
    several = len(names) > 1
    groups = found["duplicates"]
    identical = f"{_count(len(groups), 'group')}, such as {' = '.join(groups[0])}" if groups else ""
    held = {
        _split(name, names).capitalize(): f"{_count(split['films'], 'film')} of "
        f"{_count(split['patients'], 'patient')}"
        for name in names
        for split in (found["splits"][name],)
    }
    return {
        **(held if several else {}),
        "Patients in several splits": (_some(shared) or "none") if several else "",
        "Identical films in several splits": (_some(twins) or "none") if several else "",
        "Byte-identical films": identical or "none",
        "Patient not known": _each_its_own(len(unknown)) if unknown else "",
        "Films by source": ", ".join(
            f"{name.strip('()')} {films:,}" for name, films in found["sources"].items()
        ),
        "With findings boxed": _count(found["boxes"], "film") if found["boxes"] else "",
    }


def _each_its_own(films: int) -> str:
    return f"{_count(films, 'film')}, each counted as a patient of its own"


# --- what only decoding tells ---


def decoding(folder: Folder) -> None:
    """Offer to decode every film; then say how large they are and which cannot be read."""
    _title("Sizes and unreadable films")
    place = st.empty()
    if folder.inspection is None:
        with place.container():
            note("Names and digests are known; whether each film decodes, and its size, are not.")
            asked = st.button("Decode every film")
        if not asked:
            return
        folder.inspection = inspect(folder.dataset, tell(place))
        place.empty()
    found = folder.inspection
    note(sizes_in_words(found))
    common = sorted(found.sizes.items(), key=lambda size: -size[1])[:MOST_ROWS]
    lines = {f"{w:,} × {h:,} pixels": [films] for (w, h), films in common if films > 1}
    if len(found.sizes) > 1 and lines:
        st.html(_table(["Films"], lines))
    if found.unreadable:
        st.html(fact_table(dict(found.unreadable[:MOST_ROWS])))
    if len(found.unreadable) > MOST_ROWS:
        note(f"And {len(found.unreadable) - MOST_ROWS:,} more that cannot be read.")


def sizes_in_words(found: Inspection) -> str:
    """Say which sizes the films have, and how many cannot be read."""
    bad = len(found.unreadable)
    said = f"{_count(bad, 'film')} cannot be read" if bad else "Every film can be read"
    if not found.sizes:
        return f"{said}."
    widths, heights = zip(*found.sizes, strict=True)
    if len(found.sizes) == 1:
        which = "the others have" if bad else "all have"
        return f"{said}; {which} {widths[0]:,} × {heights[0]:,} pixels."
    spans = [f"{min(sides):,} to {max(sides):,} pixels" for sides in (widths, heights)]
    return f"{said}; {len(found.sizes):,} sizes, {spans[0]} wide and {spans[1]} high."


def samples(folder: Folder) -> None:
    """Show a few films of each finding, drawn by chance; others when asked."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html('<h2 class="cxr-title">Films drawn by chance</h2>', width="content")
        st.button("Others", on_click=folder.draw_others, type="tertiary")
    if not folder.samples:
        with st.spinner("Reading films"):
            folder.samples = draw_samples(folder)
    findings = list(folder.samples)
    for pair in (findings[k : k + 2] for k in range(0, len(findings), 2)):
        for side, finding in zip(st.columns(2, gap="large"), pair, strict=False):
            with side:
                _row(finding, folder.samples[finding])


def _row(finding: str, drawn: Sequence[Sample]) -> None:
    _title(shown(finding))
    for column, sample in zip(st.columns(PER_FINDING), drawn, strict=False):
        with column:
            _show(sample)


def draw_samples(folder: Folder) -> dict[str, list[Sample]]:
    """Read a few films of each finding; each draw takes the next in an order set by chance."""
    drawn = {}
    for finding in _order(folder.summary["splits"])[1]:
        films = [film for film in folder.dataset.films if finding in (film.findings or (NOTHING,))]
        Random(finding).shuffle(films)
        start = folder.draw * PER_FINDING % len(films)
        chosen = (films[start:] + films[:start])[:PER_FINDING]
        drawn[finding] = [_sample(folder.dataset.root, film) for film in chosen]
    return drawn


def _sample(root: Path, film: Film) -> Sample:
    try:
        grey = overlays.thumbnail(read_film(root, film).pixels, SAMPLE_SIDE)
    except CxrError as error:
        return Sample(film, None, str(error))
    return Sample(film, overlays.png(grey))


def _show(sample: Sample) -> None:
    name = sample.film.file.rpartition("/")[2]
    findings = ", ".join(map(shown, sample.film.findings or (NOTHING,)))
    if sample.picture is None:
        note(sample.reason)
    else:
        alt = f"Film {name}, {findings}"
        st.image(sample.picture, alt=alt, width="stretch", output_format="PNG")
    broken = escape(name).replace("_", "_<wbr>")  # a long name breaks between its words
    st.html(f'<p class="cxr-note"><strong>{broken}</strong><br>{escape(findings)}</p>')


# --- findings that come together ---


def together(folder: Folder) -> None:
    """Draw which findings share films, where films carry several that vary freely."""
    several = [set(film.findings) for film in folder.dataset.films if len(film.findings) > 1]
    # A finding in every combination is a kind and its subkinds (pneumonia, bacterial or viral).
    if not several or set.intersection(*several):
        return
    pairs = pairs_of(*cooccurrence(folder.dataset.films))
    ranked = sorted(pairs, key=lambda pair: -pair["films"])
    _title("Findings on the same film")
    note(f"Most often together: {_pair(ranked[0])}, on {ranked[0]['films']:,} films.")
    _chart(heat_map(pairs, PALETTES[theme()]), "Findings on the same film")
    with st.expander("As a table"):
        st.html(_table(["Films"], {_pair(one): [one["films"]] for one in ranked if one["films"]}))


def pairs_of(names: Sequence[str], matrix: NDArray[np.int64]) -> list[dict[str, Any]]:
    """List each two findings, and how many films hold both: the lower half of the matrix."""
    return [
        {"row": shown(name), "column": shown(names[column]), "films": int(matrix[row, column])}
        for row, name in enumerate(names)
        for column in range(row)
    ]


def _pair(pair: Mapping[str, Any]) -> str:
    return f"{pair['column']} and {pair['row']}"


def heat_map(pairs: Sequence[Mapping[str, Any]], palette: Palette) -> dict[str, Any]:
    """Describe the lower half of a table of pairs in Vega-Lite, each cell with its number."""
    most = max(pair["films"] for pair in pairs)
    labels = _labels(palette, 13) | {"labelOverlap": False, "labelFlush": False}
    films = {"field": "films", "type": "quantitative"}
    scale = {"range": list(overlays.INFERNO), "domain": [0, most]}
    legend = {"title": "Films", "tickCount": 4}
    bright = {"test": f"datum.films > {0.6 * most}", "value": "#000000"}
    return {
        "data": {"values": list(pairs)},
        "height": 26 * len({pair["row"] for pair in pairs}) + 100,  # the words below among it
        "encoding": {
            "x": {"field": "column", "sort": None, "axis": labels | {"labelAngle": -35}},
            "y": {"field": "row", "sort": None, "axis": labels},
        },
        "layer": [
            {
                "mark": {"type": "rect", "stroke": palette.ground},
                "encoding": {"color": films | {"scale": scale, "legend": legend}},
            },
            {
                "mark": {"type": "text", "fontSize": 13},
                "encoding": {
                    "text": films | {"format": ",d"},
                    "color": {"condition": bright, "value": "#ffffff"},
                },
            },
        ],
    }
