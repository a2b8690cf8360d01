"""Does a model hold on the films of this site, and what would its own films decide instead?

A site gives labelled films, or scores made here and what is true of them. It is told how well
the model ranks them, whether its probabilities and its cannot-tell bands hold, and where it
would flag by the card's own rule. What its films decide can be registered as a copy of the
model under another name; the weights stay as they are, and so does the model that was checked.
"""

from cxr_core.local_check.copies import belonging, register
from cxr_core.local_check.films import SiteFilms, films_of_folder, films_of_scores
from cxr_core.local_check.honesty import Line, honest_line
from cxr_core.local_check.measured import ENOUGH, LocalCheck, measure
from cxr_core.local_check.sentences import in_words
from cxr_core.local_check.suggestion import Suggestion

__all__ = [
    "ENOUGH",
    "Line",
    "LocalCheck",
    "SiteFilms",
    "Suggestion",
    "belonging",
    "films_of_folder",
    "films_of_scores",
    "honest_line",
    "in_words",
    "measure",
    "register",
]
