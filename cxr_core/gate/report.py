"""What a check says, and all checks of one film together."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "caution", "refuse"]
_SEVERITY: tuple[Verdict, ...] = ("ok", "caution", "refuse")


@dataclass(frozen=True)
class GateCheck:
    """One thing that was checked.

    Attributes:
        name: What ("age", "view", ...).
        value: What was measured or stated, or None when unknown.
        limit: What is allowed.
        verdict: "ok", "caution" or "refuse".
        reason: One sentence.
        mend: What to do about it; empty when nothing is needed.
    """

    name: str
    value: float | str | None
    limit: str
    verdict: Verdict
    reason: str
    mend: str = ""


@dataclass(frozen=True)
class GateReport:
    """All checks of one film for one model."""

    checks: tuple[GateCheck, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        return max((check.verdict for check in self.checks), key=_SEVERITY.index, default="ok")

    @property
    def refused(self) -> bool:
        """Whether the model must not speak."""
        return self.verdict == "refuse"

    def by_verdict(self, verdict: Verdict) -> tuple[GateCheck, ...]:
        """Return the checks that ended so."""
        return tuple(check for check in self.checks if check.verdict == verdict)

    def to_json(self) -> dict[str, Any]:
        """Return the report as `predict --json` prints it."""
        return {"verdict": self.verdict, "checks": [asdict(check) for check in self.checks]}
