"""Any other system's scores, beside what is true of the films: two CSV files become a table.

Files of other systems name films and labels in their own ways. Names that differ only in how
they are written are brought together; what cannot be brought together without a guess is left
out, and a note says so. Nothing here needs the films, or a network.
"""

from cxr_core.scores.outside import (
    OUTSIDE,
    OutsideScores,
    evaluate_scores,
    named_as,
    read_score_files,
    read_scores,
)

__all__ = [
    "OUTSIDE",
    "OutsideScores",
    "evaluate_scores",
    "named_as",
    "read_score_files",
    "read_scores",
]
