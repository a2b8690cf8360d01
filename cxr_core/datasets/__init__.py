"""A folder of films: what is in it, who the patients are, how to split it, its pixels.

`index` reads names and digests, never pixels; `split_by_patient` keeps every patient,
and every pair of byte-identical films, on one side; `pixel_cache` decodes each film
once into a uint8 memory map that training then reads.
"""

from cxr_core.datasets.cache import cache_root, pixel_cache
from cxr_core.datasets.films import (
    Box,
    DatasetIndex,
    Film,
    Place,
    Progress,
    duplicates,
    overlap,
    summarise,
)
from cxr_core.datasets.layouts import index, list_layouts, register_layout
from cxr_core.datasets.splits import split_by_film, split_by_patient

__all__ = [
    "Box",
    "DatasetIndex",
    "Film",
    "Place",
    "Progress",
    "cache_root",
    "duplicates",
    "index",
    "list_layouts",
    "overlap",
    "pixel_cache",
    "register_layout",
    "split_by_film",
    "split_by_patient",
    "summarise",
]
