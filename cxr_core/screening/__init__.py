"""Many films: each gets an answer, or the reason why not, and none is lost on the way.

`films` finds them; `answers` reads and answers them, the next ones being decoded while the
network works: `predict`, the HTTP API and `screen` share it. Of `screen` alone are `job`, what is
asked of an archive; `parts`, what is answered so far, so that a killed run goes on where it was;
`table`, the Parquet; `outlines`, Grad-CAM as lines; `cluster`, the same work on Ray. They are
imported by their names, since the others need no pyarrow.
"""

from cxr_core.screening.answers import Answer, Prepared, prepare_film, screen
from cxr_core.screening.films import films_of, find_films

__all__ = ["Answer", "Prepared", "films_of", "find_films", "prepare_film", "screen"]
