"""Whether explanations can be trusted: measured on films, written beside the model."""

from cxr_core.faithfulness.boxes import best_point, fixed_box_overlaps, fixed_point_hits, overlap
from cxr_core.faithfulness.cascade import likeness, shuffled
from cxr_core.faithfulness.curves import (
    blurred,
    bootstrap,
    cells,
    centre_order,
    follow,
    order_of,
    random_order,
)
from cxr_core.faithfulness.measure import measure
from cxr_core.faithfulness.sample import choose_films, write_mean_film

__all__ = [
    "best_point",
    "blurred",
    "bootstrap",
    "cells",
    "centre_order",
    "choose_films",
    "fixed_box_overlaps",
    "fixed_point_hits",
    "follow",
    "likeness",
    "measure",
    "order_of",
    "overlap",
    "random_order",
    "shuffled",
    "write_mean_film",
]
