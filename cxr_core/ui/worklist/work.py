"""One reader's list and the thread that reads its films, while the pages stay quick.

What came as a file is held as it came, in the memory of this session alone: its header says
whose film it is, and that leaves with the session. The site's records hold what survives it
(`records.Event`): a film that is found there, but neither here nor in the site's store, has
to be dropped again, and is known by its digest.
"""

import hashlib
import os
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from threading import Lock, Thread

import streamlit as st

from cxr_core.archive.inbox import inbox
from cxr_core.cards import ModelCard
from cxr_core.errors import (
    ArgumentError,
    CxrError,
    DataError,
    ImageError,
    ImageTooLarge,
    ModelError,
    RecordsError,
    UnreadableImage,
)
from cxr_core.images import (
    MAX_BYTES,
    Radiograph,
    StudyReference,
    read_radiograph,
    read_study_reference,
)
from cxr_core.records import MOST_DAYS, Event, Read, films
from cxr_core.ui import gallery, journal, readfirst, session
from cxr_core.ui.arrivals import Upload
from cxr_core.ui.datafolder import fence
from cxr_core.ui.worklist.rows import Listed, Row, rows, title, weight

DAYS = "CXR_WORKLIST_DAYS"
DAYS_LISTED = 14.0  # unless the site says otherwise
MOST_FILMS = 1000  # a line each; more films are work for the command line
MOST_BYTES = 2**29  # of read files in memory; beyond, films without a finding are let go
MOST_HELD = 2**31  # of all files in memory, those that wait to be read among them
DRAWN = 10  # test films of one draw
SETTLED = 3.0  # seconds in which a file of the inbox stayed as it is, before it is taken
BROKEN = "Reading it failed for a reason that nobody foresaw: the server's log says more."
Lying = tuple[Path, int, int]
"""A file of the inbox: its path, size and time of change."""

# What is being read by any list of this server, so that no film is read by two of them.
_reading: set[tuple[str, str, str]] = set()
_reading_lock = Lock()


@dataclass
class Filed:
    """One film of the list, as this session knows it.

    Attributes:
        digest: SHA-256 of its file, in hexadecimal.
        name: Of its file; "" where it is not known here.
        at: When it came, UTC, ISO 8601.
        source: The file or where it lies; None when it has to be dropped again.
        problem: Why it cannot be read; "" when it can, or nobody tried.
        view: As its header says.
        study: Whose film it is.
        test_film: What the model's test record calls it, where it came from there.
        reads: What was answered, by model name and version.
    """

    digest: str
    name: str = ""
    at: str = ""
    source: bytes | Path | None = field(default=None, repr=False)
    problem: str = ""
    view: str | None = None
    study: StudyReference | None = None
    test_film: str = ""
    reads: dict[tuple[str, str], Read] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is called on screen."""
        return title(self.name, self.digest)

    @property
    def here(self) -> bool:
        """Whether it can be opened."""
        return self.source is not None or films.holds(self.digest)

    def radiograph(self) -> Radiograph:
        """Read the film from wherever it is.

        Raises:
            CxrError: When it cannot be read, or is not here.
        """
        if self.source is None:
            found = films.stored(self.digest)
            if found is None:
                raise ArgumentError(f"{self.title} is not here: drop it again.")
            return found
        if isinstance(self.source, bytes):
            return read_radiograph(self.source)
        # Not by its path: what is said of a film goes into the records, a name does not.
        found = read_radiograph(_bytes(self.source))
        if found.digest != self.digest:
            raise ArgumentError(f"{self.title} was changed since it came: take it in again.")
        return found


@dataclass(eq=False)
class Worklist:
    """All films of one reader's list.

    Attributes:
        films: By digest, in order of arrival.
        card: The model that reads them.
        coming: Files of the server that are yet to be entered, as `_enter` takes them.
        broken: Why a model cannot read, by name and version.
        again: Which films of those dropped lately were on the list already, in a sentence.
        left_out: Why something that came lately is not on the list; "" when all is.
        unkept: Why the records could not take an answer; "" when they did.
        order: The films that next and previous lead through.
        opened: The films that it put on the reading page.
        at: The one of them that stands in `order`.
        leaving: Whether a film waits on the reading page.
        taken: What came from the inbox.
        first_seen: What lies in the inbox and is not taken yet, and since when it looks so.
        cleared: Films that anybody took off the list, by digest.
        aside: Files of the inbox that were cleared from the list: they wait to be asked for.
        asked_back: Those of them that were.
        seen: When readers last looked at films, by digest.
        entered: What came in this session, by digest.
        older: Films of the records that are not listed for their age; None before they are counted.
        reach: How often the reader asked for older ones.
        came: When films were dropped last, in seconds of `time.monotonic`.
    """

    films: dict[str, Filed] = field(default_factory=dict)
    card: ModelCard | None = None
    coming: list[tuple[str, bytes | Path, str]] = field(default_factory=list)
    broken: dict[tuple[str, str], str] = field(default_factory=dict)
    again: str = ""
    left_out: str = ""
    unkept: str = ""
    order: tuple[str, ...] = ()
    opened: set[str] = field(default_factory=set)
    at: str = ""
    leaving: bool = False
    taken: set[Lying] = field(default_factory=set)
    first_seen: dict[Lying, float] = field(default_factory=dict)
    cleared: frozenset[str] = frozenset()
    aside: list[Path] = field(default_factory=list)
    asked_back: set[Path] = field(default_factory=set)
    seen: Mapping[str, str] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    older: int | None = None
    reach: int = 0
    came: float = float("-inf")
    _known: list[str] = field(default_factory=list)
    _worker: Thread | None = None

    # --- films come ---

    def take(self, uploads: Sequence[Upload]) -> None:
        """Put files on the list; those that are there already are matched by their digest.

        What is said of one file stays when the next is dropped right after it.
        """
        now = time.monotonic()
        if now - self.came > session.LATELY:
            self.left_out, self._known = "", []
        self.came = now
        self.broken.clear()
        visible = [one for one in uploads if not Path(one.name).name.startswith(".")]
        known = [one.name for one in visible if hashlib.sha256(one.data).hexdigest() in self.films]
        self._known += known
        self.again = _again(self._known)
        self._enter([(one.name, one.data, "") for one in visible])

    def receive(self, name: str, data: bytes) -> bool:
        """Put one file that came over the network on the list; say whether it is there."""
        self._enter([(name, data, "")])
        return hashlib.sha256(data).hexdigest() in self.films

    def look(self) -> None:
        """Take in what came to the inbox, by itself; files are read where they lie.

        A film that is being copied there is left to grow: it is taken once it has stayed as it
        is for a while. What was cleared from the list does not come back by itself.

        Raises:
            ArgumentError: When the site names a folder that is none.
        """
        lying, now = self.inbox(), time.monotonic()
        self.first_seen = {one: self.first_seen.get(one, now) for one in lying}
        still = [one for one in lying if now - self.first_seen[one] >= SETTLED]
        if still:
            self.cleared = journal.cleared()
            self.taken.update(still)
            self.coming += [(path.name, path, "") for path, _, _ in still]

    @property
    def settling(self) -> bool:
        """Whether files of the inbox are about to be taken."""
        return bool(self.first_seen.keys() - self.taken)

    def take_back(self) -> None:
        """Take in again what was taken before the list was cleared."""
        back, self.aside, self.left_out = self.aside, [], ""
        self.asked_back.update(back)
        self.coming += [(path.name, path, "") for path in back]

    def inbox(self) -> list[Lying]:
        """Return what lies in the site's inbox and was not taken: path, size, time of change.

        Raises:
            ArgumentError: When the site names a folder that is none.
        """
        limit = inbox()
        if limit is None:
            return []
        return [one for one in _lying(limit) if one not in self.taken]

    def draw(self, card: ModelCard) -> None:
        """Put test films on the list that nobody here has seen, drawn by lot and unnamed.

        Raises:
            DataError: When the films of the model's record cannot be found.
        """
        limit, table = fence(), session.record(card).table
        source = gallery.find_source(limit, table.files) if limit is not None else None
        if source is None:
            raise DataError(
                f"The test films of {card.name} are not at hand: set the environment variable "
                "CXR_DATA to the folder that holds them, and start the app again."
            )
        films = list(self.films.values())  # the thread may add to them meanwhile
        known = {film.test_film for film in films} | {file for _, _, file in list(self.coming)}
        known |= {one.test_film for one in journal.said_of(card.name)}
        left = [file for file in table.files if file not in known]
        drawn = SystemRandom().sample(left, min(DRAWN, len(left)))
        start = sum(bool(film.test_film) for film in films) + sum(
            bool(file) for _, _, file in list(self.coming)
        )
        self.coming += [
            (f"Test film {start + number}", source.path(file), file)
            for number, file in enumerate(drawn, 1)
        ]

    def _enter(self, came: Sequence[tuple[str, bytes | Path, str]]) -> None:
        """Enter files, new ones also into the records.

        Args:
            came: Name, the file or where it lies, and its name in a test record or "".
        """
        events = []
        for name, source, test_film in came:
            try:
                data = source if isinstance(source, bytes) else _bytes(source)
            except ImageError as error:
                self.left_out = f"{name} was left out. {error}"
                continue
            digest = hashlib.sha256(data).hexdigest()
            by_itself = isinstance(source, Path) and not test_film and source not in self.asked_back
            if isinstance(source, Path) and by_itself and digest in self.cleared:
                self.aside.append(source)
                continue
            # What is named by its digest, as our own listener does, has no name to show.
            name = "" if Path(name).stem == digest else name
            film = self.films.get(digest)
            if digest not in self.entered and len(self.entered) >= MOST_FILMS:
                self.left_out = (
                    f"The list holds {MOST_FILMS:,} films; the rest was left out. Clear the list, "
                    "or read many at once with `python -m cxr_core screen`."
                )
                break
            new = isinstance(source, bytes) and (film is None or film.source is None)
            if new and self._held() + len(data) > MOST_HELD:
                self.left_out = (
                    f"{name} and what came after it were left out: the files on the list fill "
                    f"{MOST_HELD // 2**30} GB already. Drop them again when these are read, or "
                    "read many at once with `python -m cxr_core screen`."
                )
                break
            known_bad = by_itself and film is not None and film.problem
            if film is None or (film.problem and not known_bad):
                events.append(Event(digest=digest, what="listed", name=name))
            study = _study(data)
            film = self.films.setdefault(digest, Filed(digest, at=_now()))
            self.entered.add(digest)
            film.name, film.study, film.test_film = name, study, test_film or film.test_film
            film.problem = known_bad or ""
            film.source = source  # last: from here on it can be opened
        self.unkept = journal.keep(*events)

    def _held(self) -> int:
        """Count the bytes of all files in memory."""
        sources = [film.source for film in list(self.films.values())]
        return sum(len(source) for source in sources if isinstance(source, bytes))

    def clear(self) -> None:
        """Take every film off the list; what was answered stays in the records."""
        gone = [Event(digest=digest, what="removed") for digest in list(self.films)]
        here = [(film.source, film.test_film) for film in list(self.films.values())]
        here += [(source, test_film) for _, source, test_film in self.coming]
        lying = [source for source, drawn in here if isinstance(source, Path) and not drawn]
        self.aside = list(dict.fromkeys([*self.aside, *lying]))
        # What was left out, as of a full list, is taken in now.
        self.taken = {one for one in self.taken if one[0] in self.aside}
        self.asked_back.clear()
        self.films.clear()
        self.entered.clear()
        self.coming.clear()
        self.order, self.left_out, self.again, self._known = (), "", "", []
        self.reach, self.older = 0, None
        self.unkept = journal.keep(*gone)

    # --- films are read ---

    def refresh(self, card: ModelCard) -> None:
        """Take up what the records hold of the list, and have the rest read.

        Of the records only what came lately is asked for, or as far back as the reader asked:
        they grow for years, and this is done every second while films are read.

        Raises:
            ArgumentError: When the site says wrongly how long films stay on the list.
        """
        self.card, model = card, (card.name, card.version)
        events = journal.listed(MOST_FILMS * (1 + self.reach), None if self.reach else days())
        if self.older is None:
            self.older = max(journal.standing() - len(events), 0)
        for event in events:
            known = Filed(event.digest, event.name, event.at, problem=event.note)
            self.films.setdefault(event.digest, known)  # the thread may have entered it meanwhile
        reads, self.seen = journal.known_of(list(self.films), *model)
        for digest, read in reads.items():
            self.films[digest].reads[model] = read
        if self.left() and (self._worker is None or not self._worker.is_alive()):
            self._worker = Thread(
                target=_work, args=(weakref.ref(self),), name="worklist", daemon=True
            )
            self._worker.start()

    def go_back(self) -> None:
        """List more of what came earlier, whatever its age."""
        self.reach, self.older = self.reach + 1, None

    def left(self) -> int:
        """Count what the thread has still to do."""
        return len(self.coming) + len(self.waiting())

    def waiting(self) -> list[Filed]:
        """Return the films that can be read and have not been."""
        card = self.card
        if card is None or (card.name, card.version) in self.broken:
            return []
        return [
            film
            for film in list(self.films.values())
            if not film.problem and (card.name, card.version) not in film.reads and film.here
        ]

    def step(self) -> bool:
        """Enter or read one film; say whether there was one."""
        if self.coming:
            first = self.coming[0]
            self._enter([first])
            if self.coming[:1] == [first]:  # unless the list was cleared meanwhile
                del self.coming[0]
            return True
        card = self.card
        if card is None:
            return False
        model = (card.name, card.version)
        for film in self.waiting():
            with _claimed((film.digest, *model)) as ours:
                if not ours:  # another reader's list is at it: its answer comes by the records
                    continue
                known = journal.answer(film.digest, *model)
                if known is not None:
                    film.reads[model] = known
                else:
                    self._try(film, card)
            return True
        return False

    def _try(self, film: Filed, card: ModelCard) -> None:
        """Read one film; whatever happens, it does not wait any longer."""
        whole = False
        try:
            self._read(film, card)
            whole = True
        finally:
            if not whole:
                film.problem = BROKEN

    def _read(self, film: Filed, card: ModelCard) -> None:
        """Have one film answered, and stored where the site says so; or say why not."""
        try:
            radiograph = film.radiograph()
            told = session.entry(film.digest, card, session.answered(radiograph, card))
            film.view = radiograph.facts.view
        except ModelError as error:
            self.broken[card.name, card.version] = str(error)
            return
        except CxrError as error:
            film.problem = str(error)
            if isinstance(error, ImageError):
                journal.keep(Event(digest=film.digest, what="failed", note=film.problem))
            return
        self.unkept = journal.keep(told) or _stored(film, radiograph)
        film.reads[card.name, card.version] = told
        self._let_go(card)

    def _let_go(self, card: ModelCard) -> None:
        """Drop read films from memory beyond what it holds, those that need no look first."""
        read = [
            (film, len(film.source))
            for film in list(self.films.values())
            if isinstance(film.source, bytes) and (card.name, card.version) in film.reads
        ]
        over = sum(size for _, size in read) - MOST_BYTES
        for film, size in sorted(read, key=lambda one: weight(_listed(one[0], card)), reverse=True):
            if over <= 0:
                return
            film.source, over = None, over - size

    # --- the list as it is shown ---

    def rows(self, card: ModelCard) -> list[Row]:
        """Return the list, what matters first; answers that wait for the reader are hidden."""
        mode, screen = readfirst.current(), session.current().films
        found = [
            replace(
                _as_on_screen(_listed(film, card), screen.get(film.digest), card),
                hidden=mode.hides(readfirst.question(film.digest, card)),
                seen=self.seen.get(film.digest, ""),
            )
            for film in sorted(list(self.films.values()), key=lambda film: film.at)
        ]
        return rows(found)

    def open(self, row: Row, order: Sequence[Row]) -> None:
        """Put a study on the reading page, its frontal film first; earlier ones leave it.

        Args:
            row: The study.
            order: The list as it is on screen, for next and previous.

        Raises:
            CxrError: When the film cannot be read, or is not here.
        """
        self.order = tuple(one.film.digest for one in order if one.film.opens)
        self._show(row)

    def place(self) -> int | None:
        """Return the place in `order` of the film that it put on the reading page, if any."""
        if self.at not in self.order or self.at not in session.current().films:
            return None
        return self.order.index(self.at)

    def turn(self, place: int) -> None:
        """Put the film at another place of `order` on the reading page.

        Raises:
            CxrError: As `open`.
        """
        if self.card is not None:
            rows_of = [row for row in self.rows(self.card) if self.order[place] in row.digests]
            for row in rows_of:
                self._show(row)
                self.at = self.order[place]  # another film may speak for the study by now

    def _show(self, row: Row) -> None:
        """Put the films of a study on the reading page; those put there before leave it."""
        wanted = [row.film, *(one for one in row.others if one.opens)]
        whole = {one.digest: self.films[one.digest].radiograph() for one in wanted}
        screen = session.current()
        for gone in self.opened - set(whole):
            screen.films.pop(gone, None)
        self.opened = {one for one in whole if one in self.opened or one not in screen.films}
        for digest, radiograph in whole.items():
            film = self.films[digest]
            screen.add(film.title, radiograph, test_film=film.test_film, reference=film.study)
        screen.chosen = self.at = row.film.digest
        screen.failures = []


def _again(names: Sequence[str]) -> str:
    """Say which films were on the list already."""
    if not names:
        return ""
    more = f" and {len(names) - 1:,} more were" if len(names) > 1 else " was"
    return f"{names[0]}{more} on the list already."


def days() -> float:
    """Return for how many days a film stays on the list unasked.

    Raises:
        ArgumentError: When the site says it wrongly.
    """
    told = os.environ.get(DAYS, "")
    try:
        found = float(told) if told else DAYS_LISTED
    except ValueError:
        found = float("nan")
    if not 0 < found <= MOST_DAYS:
        raise ArgumentError(
            f"The environment variable {DAYS} must be a number of days above 0, up to "
            f"{MOST_DAYS:,}, but '{told}' came. Mend it, and start the app again."
        )
    return found


def current() -> Worklist:
    """Return this reader's list, made on first use."""
    state = st.session_state
    if "worklist" not in state:
        state["worklist"] = Worklist()
    found: Worklist = state["worklist"]
    return found


def _work(listed: "weakref.ref[Worklist]") -> None:
    """Read one film after the other, until there is none or the list's session has ended."""
    while (worklist := listed()) is not None and worklist.step():
        del worklist


@contextmanager
def _claimed(what: tuple[str, str, str]) -> Iterator[bool]:
    """Claim the reading of a film by a model; say whether nobody else is at it."""
    with _reading_lock:
        ours = what not in _reading
        _reading.add(what)
    try:
        yield ours
    finally:
        if ours:
            with _reading_lock:
                _reading.discard(what)


def _lying(folder: Path) -> list[Lying]:
    """Return the films that lie in a folder and not outside it; hidden files are none."""
    found = []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        with suppress(FileNotFoundError):  # the folder may be emptied meanwhile
            if path.is_file() and path.resolve().is_relative_to(folder):
                facts = path.stat()
                found.append((path, facts.st_size, facts.st_mtime_ns))
    return found


def _bytes(path: Path) -> bytes:
    """Read a file of the server, unless it is too large to be one film.

    Raises:
        ImageError: When it cannot be read; no name is told.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageTooLarge(f"The file has more than {MAX_BYTES // 2**20} MB.")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"The file cannot be opened ({error.strerror}).") from error


def _study(data: bytes) -> StudyReference | None:
    """Return whose film it is; a damaged header is told when the film is read."""
    try:
        return read_study_reference(data)
    except ImageError:
        return None


def _stored(film: Filed, radiograph: Radiograph) -> str:
    """Store a film where the site stores films, and hold it no longer; return why that failed."""
    try:
        films.store(radiograph)
    except RecordsError as error:
        return str(error)
    if films.holds(film.digest) and isinstance(film.source, bytes):
        film.source = None
    return ""


def _listed(film: Filed, card: ModelCard) -> Listed:
    """Say what the list shows of a film."""
    return Listed(
        digest=film.digest,
        name=film.name,
        at=film.at,
        problem=film.problem,
        study=film.study.study_uid if film.study is not None else "",
        series=film.study.series_uid if film.study is not None else "",
        view=film.view,
        here=film.here,
        read=film.reads.get((card.name, card.version)),
    )


def _as_on_screen(listed: Listed, film: session.Film | None, card: ModelCard) -> Listed:
    """Say of a film that is mended on the reading page, or of a stated age, what it is there."""
    if film is None or film.as_it_came:
        return listed
    how = ["as mended"] * bool(film.mended) + ["for the age stated"] * (film.stated_age is not None)
    read = session.film_entry(film, card) if film.was_read(card) else None
    return replace(listed, read=read, changed=f"{' and '.join(how)} on the reading page")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
