"""How fast networks are trained: against what the processor allows, by cache, by number of films.

The step is that of `pediatric-pneumonia`, on made squares. "Physically" stands for the
multiplications and additions of forward and backward pass at the rate at which the same cores
multiply large matrices, measured in the same minute, in turns.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.peers import SIDE, places
from benchmarks.speed import jpeg
from cxr_core.datasets import Film
from cxr_core.images import read_radiograph
from cxr_core.parts import Part
from cxr_core.preprocess import to_square
from cxr_core.recipes import Recipe, get_recipe

RECIPE = "pediatric-pneumonia"
STEPS, ROUNDS = 5, 6  # steps of a round
DECODED = 24  # JPEGs
COUNTS = (1_000, 10_000, 100_000)
# Films of the network's own pass that a step does: forward once, backward twice that (one
# product for the gradient of the weights, one for that of the maps).
PASSES = 3


def measure(_: Path) -> str:
    """Measure the step, its parts, and what feeds it."""
    load = os.getloadavg()[0]
    return "\n".join(
        [
            f"Load of the machine before it began {load:.0f}; wall times, medians of {ROUNDS} "
            "rounds in turns.",
            "",
            "| what | films a second |",
            "|---|---:|",
            *_step(),
            *_devices(),
            "",
            "| films in the cache | read a second, a whole epoch in its shuffled order "
            "| memory more than before, MB |",
            "|---:|---:|---:|",
            *_growth(),
        ]
    )


@cache
def made(films: int, side: int) -> Part:
    """Make a part of grey squares; half of the films have the finding."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (films, side, side), np.uint8)
    return _part(squares)


def _part(squares: Any) -> Part:
    count = len(squares)
    films = tuple(
        Film(f"{k:06}.png", ("PNEUMONIA",) if k % 2 else (), f"{k}", None, f"{k:064x}")
        for k in range(count)
    )
    return Part(films, squares, (np.arange(count) % 2).astype(np.float32)[:, None])


def in_turns(tasks: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Run each task again and again, in turns: median wall seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if number:  # the first round traces and fills caches
                taken[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in taken.items()}


def _step() -> list[str]:
    """Time the training step beside matrices, and what makes its batches ready."""
    from cxr_core.training import batches, build, compile_network

    recipe = get_recipe(RECIPE)
    config, side = recipe.config, recipe.preprocessing.size
    part = made(config.batch * (STEPS + 1), side)
    network = build(recipe, seed=0)
    compile_network(network, recipe, 1000)
    ready = [batch for batch, _ in zip(batches(part, recipe, 0, 0), range(STEPS), strict=False)]
    large = np.ones((2 * SIDE, 2 * SIDE), np.float32)
    source = jpeg()

    def epoch() -> None:
        for batch in batches(part, recipe, 0, 0):
            network.train_on_batch(*batch)

    def train(films: Iterable[Any]) -> None:
        for batch in films:
            network.train_on_batch(*batch)

    t = in_turns(
        {
            "step": lambda: train(ready),
            "matrices": lambda: large @ large,
            "batches": lambda: [None for _ in batches(part, recipe, 0, 0)],
            "together": epoch,
            "jpeg": lambda: [
                to_square(read_radiograph(source), recipe.preprocessing) for _ in range(DECODED)
            ],
            "memory map": lambda: [np.array(square) for square in part.squares[: 10 * DECODED]],
        }
    )
    rate = 2 * (2 * SIDE) ** 3 / t["matrices"]
    per_film = PASSES * operations(network)
    limit = rate / per_film
    films = config.batch * STEPS
    step = films / t["step"]
    return [
        f"| The training step alone ({RECIPE}, {side} px, batches of {config.batch}) "
        f"| {step:.1f} |",
        f"| ... physically: {per_film / 1e9:.2f} thousand million operations a film, "
        f"{rate / 1e9:.0f} a second in products of matrices | {limit:.1f} |",
        f"| ... the limit over the step | {limit / step:.2f} times |",
        f"| Batches made ready (read, augmented, normalised), nothing trained "
        f"| {len(part.films) / t['batches']:.1f} |",
        f"| Both at once, as in training | {len(part.films) / t['together']:.1f} |",
        f"| Decoding a JPEG of 1,800 pixels to its square, one thread: without the cache, each "
        f"epoch | {DECODED / t['jpeg']:.1f} |",
        f"| Reading a square from the cache's memory map instead "
        f"| {10 * DECODED / t['memory map']:,.0f} |",
    ]


def operations(network: Any) -> float:
    """Count operations of one forward pass: two for each weight at each place."""
    kinds = ("Conv2D", "DepthwiseConv2D", "Dense")
    layers = [one for one in network.layers if type(one).__name__ in kinds]
    return 2.0 * sum(
        int(np.prod(one.kernel.shape)) * places(one.output.shape[1:-1]) for one in layers
    )


def _devices() -> list[str]:
    """Say on how many devices that ran."""
    import keras

    from cxr_core.training import devices

    count = len(devices())
    return [
        f"| Devices that shared the step: {count} ({keras.backend.backend()}) | |",
    ]


def _growth() -> list[str]:
    """Read whole epochs from a cache of so many films, as training does, without augmenting."""
    recipe = get_recipe(RECIPE)
    bare = replace(recipe, config=replace(recipe.config, augmentation="none"))
    with TemporaryDirectory() as folder:
        return [_epoch(bare, count, Path(folder) / f"{count}.npy") for count in COUNTS]


def _epoch(recipe: Recipe, count: int, path: Path) -> str:
    """Go through one epoch; the file has holes where a real one has pixels, and takes no disk."""
    from cxr_core.training import batches

    side = recipe.preprocessing.size
    before = _own_memory()
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side)).flush()
    part = _part(np.load(path, mmap_mode="r"))
    began = time.perf_counter()
    films = sum(len(pixels) for pixels, _, _ in batches(part, recipe, 0, 0))
    rate = films / (time.perf_counter() - began)
    return f"| {count:,} | {rate:,.0f} | {max(0.0, _own_memory() - before):.0f} |"


def _own_memory() -> float:
    """Return the megabytes of this process that are no pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
