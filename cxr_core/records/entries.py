"""What the journal holds, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cxr_core.errors import ArgumentError

MOST_CHARACTERS = 4000  # of a comment
Stance = Literal["present", "absent", "unsure"]
Verdict = Literal["agree", "disagree", "changed my mind"]
What = Literal["listed", "failed", "removed", "shown", "revealed", "sent", "not sent"]
STANCES: tuple[Stance, ...] = get_args(Stance)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
CONFIDENCES = range(1, 6)


@dataclass(frozen=True, kw_only=True)
class Read:
    """One answer of one model on one film.

    Attributes:
        digest: SHA-256 of the film's file, in hexadecimal.
        model: Its name.
        version: Its version.
        gate: The gate's report, as `predict --json` prints it, without the patient's age.
        predictions: The answers, as `predict --json` prints them; empty when refused.
        mended: What the reader had undone of the film (turned, inverted), in words.
        reader: Who sat before the screen, as the site names readers; "" when unknown.
        at: When, UTC, ISO 8601; filled in on writing.
        stated: What the reader stated of the patient for it ("age"), never its value; "" for
            nothing, None where the program that wrote it did not say.
    """

    digest: str
    model: str
    version: str
    gate: Mapping[str, Any]
    predictions: Sequence[Mapping[str, Any]]
    mended: str = ""
    reader: str = ""
    at: str = ""
    stated: str | None = ""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a reader said of one finding on one film.

    Attributes:
        digest: Of the film.
        label: The finding, as the model names it.
        stance: "present", "absent" or "unsure"; None when not said.
        confidence: 1 (a guess) to 5 (certain); None when not said.
        before: Whether it was said before the model's answer was shown.
        model: Whose answer was, or was about to be, on screen.
        version: Of that model.
        probability: What the model said; None when it was refused.
        flag: Whether it flagged.
        verdict: "agree", "disagree" or "changed my mind"; None when not said.
        comment: In the reader's words.
        test_film: The film's name in the model's own test record; "" for any other film.
        reader: As in `Read`.
        at: When, UTC, ISO 8601; filled in on writing.
    """

    digest: str
    label: str
    stance: Stance | None = None
    confidence: int | None = None
    before: bool = False
    model: str = ""
    version: str = ""
    probability: float | None = None
    flag: bool | None = None
    verdict: Verdict | None = None
    comment: str = ""
    test_film: str = ""
    reader: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        """Refuse what nobody could have said.

        Raises:
            ArgumentError: On a stance, verdict or confidence that is not one, or a comment
                that is too long.
        """
        for name, allowed in (("stance", STANCES), ("verdict", VERDICTS)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ArgumentError(f"{name} must be one of {', '.join(allowed)}: '{value}' came.")
        if self.confidence is not None and self.confidence not in CONFIDENCES:
            raise ArgumentError(f"confidence must be 1 to 5, but {self.confidence} came.")
        if len(self.comment) > MOST_CHARACTERS:
            raise ArgumentError(
                f"A comment has at most {MOST_CHARACTERS:,} characters; this one has "
                f"{len(self.comment):,}. Shorten it."
            )


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened to a film.

    Attributes:
        digest: SHA-256 of its file, in hexadecimal.
        what: "listed" (it came to the worklist), "failed" (it came, but cannot be read),
            "removed" (it left the list), "shown" (it was put before a reader), "revealed" (so
            was the model's answer), "sent" (the answer went to an archive), "not sent" (it was
            to go there, and did not).
        model: Whose answer was, or was about to be, on screen; "" on the worklist.
        version: Of that model.
        name: Of the file, where the site keeps names; else "".
        note: Why it failed, or what was sent where, in a sentence.
        reader: As in `Read`.
        at: When, UTC, ISO 8601; filled in on writing.
    """

    digest: str
    what: What
    model: str = ""
    version: str = ""
    name: str = ""
    note: str = ""
    reader: str = ""
    at: str = ""
