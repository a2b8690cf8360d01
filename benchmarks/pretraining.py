"""Whether a backbone that has seen films serves the adult models better: one fair try.

The adult models read the frozen ImageNet MobileNetV1 by logistic regressions. Here its blocks
from the sixth on are first fitted to films, on three tasks at once, and read in the same way.
All of this was settled before any adult film was scored:

- Films: the children's training films, the published test films and a share held out by patient
  left aside, and those of COVID-19, 6,636 in all. No NIH film, so that no held-out patient is
  in it, and no "Normal" film of the COVID-19 set, whose patients NIH films may show.
- Tasks that carry anatomy, none that tells where a film was made: normal, bacterial or viral
  pneumonia, of children's films alone; whether a film was mirrored (the heart has a side,
  after Gidaris et al., ICLR 2018, arXiv:1803.07728); and the film as it was before its tones,
  sharpness and parts of it were changed (after Zhou et al., MICCAI 2019, arXiv:1908.06912).
- Batch normalisation works while its block is fitted. At rest it cannot follow: this backbone
  then turns tiny steps of many weights into large ones of its codes. An earlier try so drifted
  by 0.9 of their spread and its head fitted no longer; here the tasks' own losses rose from
  every rate between 6e-5 and 1e-6, which settled it. Heads come first, on the backbone as it
  was (Kumar et al., ICLR 2022, arXiv:2202.10054).
- Readings: the recipe's own, on the 916 NIH training and validation films, five-fold by patient,
  three deals of the folds, whose scores are averaged; the test films are not read.
- It is worth shipping only if "Abnormal" within collection A gains with p < 0.05 and neither
  all films together nor collection B lose.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.adults import SOURCES, WEIGHTS, Scores
from cxr_core.datasets import Film, index, pixel_cache
from cxr_core.parts import Part, deal, targets
from cxr_core.preprocess import Preprocessing, normalise
from cxr_core.ranking import Comparison, auroc, compare
from cxr_core.recipes import Recipe, get_recipe

SIZE = 224
BATCH = 32
# First block to be fitted (99: none), steps, peak rate: heads alone, then the upper blocks too.
STAGES = ((99, 40, 1e-3), (6, 800, 1e-4))
FOLDS, DEALS = 5, 3
RESTORED = 8  # a cell of the last map stands for so many numbers along each of its sides

Pixels = NDArray[np.float32]
Shown = tuple[Pixels, dict[str, Pixels]]


@dataclass(frozen=True)
class Films:
    """Films to learn from: squares uint8 (N, S, S); types (N, 3), rows of 0 where unknown."""

    squares: NDArray[np.uint8]
    types: Pixels


def measure(data: Path) -> str | None:
    """Pretrain, read adult films by both backbones, and tabulate; needs the films."""
    folders = [data / name for name in ("pediatric_pneumonia", "covid_radiography")]
    if not all(folder.is_dir() for folder in (*folders, data / "nih_chestxray14")):
        return None
    seen, held = films_to_learn(*folders)
    began = time.perf_counter()
    network, told = pretrain(seen, held, data / WEIGHTS)
    seconds = time.perf_counter() - began
    steps = sum(steps for _, steps, _ in STAGES)
    trained = f"{len(seen.squares):,} films, {steps} steps of {BATCH}, {seconds:,.0f} s."
    return f"{_learnt(told)}\n\n{trained}\n\n{table(data, network)}"


def films_to_learn(children: Path, covid: Path) -> tuple[Films, Films]:
    """Return the films that train, and the children's that say how well it went."""
    recipe = get_recipe("pediatric-type")
    parts = deal(index(children), recipe, 0)
    ill = [film for film in index(covid).films if "COVID" in film.findings]
    shape = replace(_shape(), size=SIZE)
    squares = {
        split: pixel_cache(children, parts[split], shape) for split in ("train", "validation")
    }
    types = {split: targets(parts[split], recipe) for split in squares}
    seen = Films(
        np.concatenate([squares["train"], pixel_cache(covid, ill, shape)]),
        np.concatenate([types["train"], np.zeros((len(ill), 3), np.float32)]),
    )
    return seen, Films(squares["validation"], types["validation"])


def _shape() -> Preprocessing:
    return get_recipe("adult-abnormality").preprocessing


def pretrain(seen: Films, held: Films, weights: Path) -> tuple[Any, list[dict[str, float]]]:
    """Fit the backbone to the three tasks, heads first.

    Args:
        seen: Films to learn from.
        held: Films that only say how well it went.
        weights: The backbone's, from ImageNet: an .npz of named arrays.

    Returns:
        The network of the tasks, and after each stage its losses and shares right on films held
        out, changed as in training.
    """
    import keras

    from cxr_core.training import averaged_weights

    keras.utils.set_random_seed(0)
    network = network_of_tasks(weights, seen.squares.shape[1])
    asked = shown(held, np.random.default_rng(0))
    told = []
    for stage, (first, steps, rate) in enumerate(STAGES):
        release(network, first)
        _compile(network, steps, rate)
        for step, batch in enumerate(batches(seen, steps, stage)):
            losses = network.train_on_batch(*batch, return_dict=True)
            if step % 50 == 49:
                print(f"stage {stage + 1}, step {step + 1}: {losses}", file=sys.stderr, flush=True)
        network.set_weights(averaged_weights(network))
        told.append(network.evaluate(*asked, batch_size=BATCH, verbose=0, return_dict=True))
    return network, told


def network_of_tasks(weights: Path, size: int) -> Any:
    """Lay three heads on the backbone: the type, whether mirrored, the film as it was."""
    import keras
    from keras import layers

    from cxr_core.networks import build_network, codes_layer, load_pretrained

    network = build_network("pretrained", size=size, channels=1, outputs=3, dropout=0.0)
    load_pretrained(network, str(weights), backbone="mobilenet-v1")
    codes = network.get_layer(codes_layer(network)).output
    last = network.get_layer("features").output
    heads = {
        "type": network.output,
        "mirrored": layers.Dense(1, name="mirrored")(codes),
        "restored": layers.Dense(RESTORED**2, name="restored")(last),
    }
    return keras.Model(network.input, heads)


def release(network: Any, first: int) -> None:
    """Let the heads and the blocks from `first` on be fitted, batch normalisation with them."""
    for layer in network.layers:
        words = layer.name.split("_")
        block = int(words[2]) if words[0] == "conv" and words[2].isdigit() else 0
        layer.trainable = block >= first or layer.name in ("logits", "mirrored", "restored")
        if layer.name.endswith("_bn"):
            layer.momentum = 0.9  # its statistics must follow within some hundred steps


def _compile(network: Any, steps: int, rate: float) -> None:
    from keras import losses, metrics, optimizers

    warmup = max(1, steps // 20)
    schedule = optimizers.schedules.CosineDecay(
        0.02 * rate, max(1, steps - warmup), warmup_target=rate, warmup_steps=warmup
    )
    network.compile(
        optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0, use_ema=True, ema_momentum=0.9),
        loss={
            "type": losses.CategoricalCrossentropy(from_logits=True),
            "mirrored": losses.BinaryCrossentropy(from_logits=True),
            "restored": losses.MeanSquaredError(),
        },
        metrics={
            "type": metrics.CategoricalAccuracy(name="right"),
            "mirrored": metrics.BinaryAccuracy(threshold=0.0, name="right"),
        },
        jit_compile=False,  # XLA slows convolutions down on processors (measured)
    )
    # Else the first step makes the optimiser's variables, and TensorFlow traces it twice.
    network.optimizer.build(network.trainable_variables)


def batches(seen: Films, steps: int, stage: int) -> Iterator[Shown]:
    """Yield batches of films drawn evenly; the next is made while the network learns from one."""
    rng = np.random.default_rng((0, stage))
    passes = -(-steps * BATCH // len(seen.squares))
    order = np.concatenate([rng.permutation(len(seen.squares)) for _ in range(passes)])

    def make(step: int) -> Shown:
        rows = np.sort(order[step * BATCH : (step + 1) * BATCH])
        some = Films(seen.squares[rows], seen.types[rows])
        return shown(some, np.random.default_rng((1, stage, step)))

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, 0)
        for step in range(steps):
            ready = ahead.result()
            if step + 1 < steps:
                ahead = pool.submit(make, step + 1)
            yield ready


def shown(some: Films, rng: np.random.Generator) -> Shown:
    """Mirror about half of the films, move all, change their looks, and say what is asked.

    Returns:
        Pixels (N, S, S, 1); and by task the types (N, 3), whether mirrored (N, 1), and the
        moved film as it was before its looks changed (N, S/32, S/32, 64).
    """
    from cxr_core.augmentation import TRAINING, augment

    still = {"stretch": 0.0, "rotate": 0.0, "shift": 0.0}
    plain = {"gamma": 0.0, "contrast": 0.0, "brightness": 0.0, "blur": 0.0, "sharpen": 0.0}
    plain |= {"softness": 0.0, "noise": 0.0, "border": 0.0, "erase": 0.0}
    pixels = some.squares.astype(np.float32) / np.float32(255)
    mirrored = rng.random(len(pixels)) < 0.5
    pixels[mirrored] = pixels[mirrored, :, ::-1]
    moved = augment(pixels, replace(TRAINING, **plain), rng)
    changed = augment(moved, replace(TRAINING, **still), rng)
    wanted = {
        "type": some.types,
        "mirrored": mirrored[:, None].astype(np.float32),
        "restored": cells(moved),
    }
    return normalise(changed, _shape())[0], wanted


def cells(pixels: Pixels) -> Pixels:
    """Shrink films (N, S, S) fourfold, each to mean 0 and spread 1, as the last map's cells.

    Returns:
        float32 (N, S/32, S/32, 64): each cell holds its 8 x 8 numbers, row by row.
    """
    standard = normalise(pixels, Preprocessing(size=pixels.shape[1], standardise=True))[0]
    side = pixels.shape[1] // (4 * RESTORED)
    split = standard.reshape(-1, side, RESTORED, 4, side, RESTORED, 4).mean(axis=(3, 6))
    return split.transpose(0, 1, 3, 2, 4).reshape(-1, side, side, RESTORED**2)


# --- reading adult films ---


def table(data: Path, network: Any) -> str:
    """Read adult films by the backbone as it came and as `network` has it now, and tabulate."""
    from cxr_core.codes import with_codes
    from cxr_core.networks import below, build_network, load_pretrained

    recipe = adult_recipe()
    part = adult_films(data / "nih_chestxray14", recipe)
    shape = recipe.preprocessing
    reader = build_network(
        recipe.network, size=shape.size, channels=shape.channels, outputs=1, **recipe.options
    )
    load_pretrained(reader, str(data / WEIGHTS), backbone="mobilenet-v1")
    before = out_of_fold(with_codes(part, reader, shape), recipe)
    for layer in below(reader).layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    after = out_of_fold(with_codes(part, reader, shape), recipe)
    return "\n".join(compared(part, before, after))


def adult_recipe() -> Recipe:
    """Return the adult models' recipe for both at once: Abnormal first, then each finding."""
    findings = get_recipe("adult-findings")
    labels = {**get_recipe("adult-abnormality").labels, **findings.labels}
    return replace(findings, labels={name: labels[name] for name in labels if labels[name]})


def adult_films(folder: Path, recipe: Recipe) -> Part:
    """Return the films that train and choose; those of the test stay closed."""
    dealt = deal(index(folder, "nih-csv"), recipe, 0)
    seen = dealt["train"] + dealt["validation"]
    return Part(seen, pixel_cache(folder, seen, recipe.preprocessing), targets(seen, recipe))


def folds(films: Sequence[Film]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of each fold of each deal: no patient in two of one deal, sources even."""
    from sklearn.model_selection import StratifiedGroupKFold

    # Of the third collection there are too few films to be told apart.
    strata = [
        f"{film.source} {bool(film.findings)}" if film.source in SOURCES else "other"
        for film in films
    ]
    patients = [film.patient for film in films]
    for dealt in range(DEALS):
        folding = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=dealt)
        for _, held in folding.split(strata, strata, patients):
            yield held


def out_of_fold(part: Part, recipe: Recipe) -> Scores:
    """Score each film (N, K) by readings of other patients' films, averaged over the deals."""
    from cxr_core.heads import solve_head
    from cxr_core.training import film_weights

    codes = np.asarray(part.codes, np.float32)
    scores = np.zeros(part.targets.shape)
    for held in folds(part.films):
        rows = np.setdiff1d(np.arange(len(codes)), held)
        seen = Part(tuple(part.films[k] for k in rows), part.squares[:0], part.targets[rows])
        weights = film_weights(seen, recipe.config, recipe.activation)
        kernel, bias = solve_head(codes[rows], seen.targets, weights, recipe.config.inverse_penalty)
        logits = (codes[held] @ kernel + bias).astype(np.float64)
        scores[held] += 0.5 * (1 + np.tanh(logits / 2)) / DEALS
    return scores


def compared(part: Part, before: Scores, after: Scores) -> list[str]:
    """Tabulate scores (N, K) of "Abnormal" and the findings by source, and say what it is worth."""
    lines = [
        "| read out of fold | films of | n | ImageNet alone | after pretraining | difference |",
        "|---|---|---:|---:|---:|---|",
    ]
    pairs = {}
    for source in SOURCES:
        films = np.array([source in ("all", film.source) for film in part.films])
        where = "all" if source == "all" else f"within {source}"
        told = f"{where} | {films.sum()}"
        truth = part.targets[films]
        pairs[source] = compare(truth[:, 0], after[films][:, 0], before[films][:, 0])
        lines.append(f"| Abnormal | {told} | {_paired(pairs[source])} |")
        lines.append(f"| findings | {told} | {_means(truth, before[films], after[films])} |")
    verdict = "worth shipping" if worth(pairs) else "not worth shipping"
    return [*lines, "", f"By the rule set before: {verdict}."]


def worth(pairs: Mapping[str, Comparison]) -> bool:
    """Say whether A gains beyond chance while neither B nor all films together lose."""
    gain = pairs["A"]
    beyond_chance = gain.p_value is not None and gain.p_value < 0.05
    return (
        beyond_chance
        and gain.difference.value > 0
        and all(pairs[source].difference.value >= 0 for source in ("all", "B"))
    )


def _paired(pair: Comparison) -> str:
    areas = [f"{area.value:.3f} ({area.low:.3f}-{area.high:.3f})" for area in (pair.b, pair.a)]
    change = pair.difference
    told = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    chance = "-" if pair.p_value is None else f"{pair.p_value:.3f}"
    return f"{' | '.join(areas)} | {told}, p {chance}"


def _means(truth: Pixels, before: Scores, after: Scores) -> str:
    """Write the mean area over the findings that some of the films have and some have not."""
    told = [k for k in range(1, truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    first, second = (
        np.mean([auroc(truth[:, k], scores[:, k]).value for k in told])
        for scores in (before, after)
    )
    return f"{first:.3f} (mean of {len(told)}) | {second:.3f} | {second - first:+.3f}"


def _learnt(told: Sequence[Mapping[str, float]]) -> str:
    """Tabulate what the tasks came to on films held out, after each stage."""
    lines = [
        "| on children's films held out, changed as in training | type right | mirrored right | "
        "error of the restored film |",
        "|---|---:|---:|---:|",
    ]
    for name, one in zip(("heads alone", "blocks from the sixth on"), told, strict=True):
        right = f"{one['type_right']:.3f} | {one['mirrored_right']:.3f}"
        lines.append(f"| {name} | {right} | {one['restored_loss']:.3f} |")
    return "\n".join(lines)
