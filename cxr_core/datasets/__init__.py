"""A folder of films: what is in it, who the patients are, how to split it, its pixels.

`index` reads names and digests, never pixels; `inspect` decodes every film to see which
cannot be read; `write_shards` packs them as TFRecords; `split_by_patient` keeps every patient,
and every pair of byte-identical films, on one side; `pixel_cache` decodes each film
once into a uint8 memory map that training then reads.
"""

from cxr_core.datasets import pickles, tables  # noqa: F401 - they register their layouts
from cxr_core.datasets.cache import cache_root, film_bytes, pixel_cache, read_film
from cxr_core.datasets.films import (
    NIH_FINDINGS,
    NO_FINDING,
    Box,
    DatasetIndex,
    Film,
    Place,
    Progress,
    cooccurrence,
    duplicates,
    overlap,
    summarise,
)
from cxr_core.datasets.inspection import Inspection, inspect
from cxr_core.datasets.layouts import index, list_layouts, recognises, register_layout
from cxr_core.datasets.shards import write_shards
from cxr_core.datasets.splits import split_by_film, split_by_patient

__all__ = [
    "NIH_FINDINGS",
    "NO_FINDING",
    "Box",
    "DatasetIndex",
    "Film",
    "Inspection",
    "Place",
    "Progress",
    "cache_root",
    "cooccurrence",
    "duplicates",
    "film_bytes",
    "index",
    "inspect",
    "list_layouts",
    "overlap",
    "pixel_cache",
    "read_film",
    "recognises",
    "register_layout",
    "split_by_film",
    "split_by_patient",
    "summarise",
    "write_shards",
]
