"""The labelled films of a site, and what a model's network says of them.

Films that trained, chose or tested the model say nothing new of it: they are refused where
they can be known, by the digest of the whole folder, or by their names.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from cxr_core.answering import answer
from cxr_core.cards import ModelCard, load_predictions, model_folder, reading
from cxr_core.classifier import Classifier, load_classifier
from cxr_core.datasets import DatasetIndex, Film, Progress, duplicates, index, read_film
from cxr_core.decisions import PLAIN, ValidationTable, logits_behind, read_validation
from cxr_core.errors import DataError, ImageError
from cxr_core.parts import deal, fit_labels, seen_digest, targets
from cxr_core.predictions import PredictionTable
from cxr_core.recipes import Recipe, get_recipe
from cxr_core.scores import read_scores
from cxr_core.scores.sheets import key_of

SAME_POINT = 1e-9  # operating points that went through a CSV file differ by less


@dataclass(frozen=True, eq=False, kw_only=True)
class SiteFilms:
    """Labelled films of a site, and what a model's network said of them.

    Attributes:
        table: Each film once, as it is.
        source: Where they came from, in words.
        digest: SHA-256 over the films, or over the files of scores and labels.
        notes: What was left out, a sentence each.
    """

    table: ValidationTable
    source: str
    digest: str
    notes: tuple[str, ...] = ()


def films_of_folder(
    card: ModelCard,
    folder: Path,
    *,
    layout: str | None = None,
    progress: Progress | None = None,
    root: Path | None = None,
) -> SiteFilms:
    """Ask a model about the labelled films of a folder, as it would be asked in use.

    Films that the gate refuses get no answer in use, and do not count here.

    Args:
        card: The model's.
        folder: In any layout of `datasets`; its splits, if it has any, do not matter here.
        layout: Which one it is; found out by default.
        progress: Told how many films were asked about.
        root: Of the models.

    Raises:
        DataError: When the folder cannot be used, its films show something else than the model
            answers, the model was trained on them, or none of them gets an answer.
        ModelError: When the model is shipped without its weights, or damaged.
    """
    dataset, recipe = index(folder, layout, progress), get_recipe(card.recipe)
    _refuse_training(card, dataset, recipe)
    fitted = fit_labels(recipe, dataset)
    if tuple(fitted.labels) != card.labels:
        raise DataError(
            f"'{folder}' tells {', '.join(fitted.labels)}, but '{card.name}' answers "
            f"{', '.join(card.labels)}. Name the classes as the model names its findings."
        )
    films, notes = _once(dataset.films)
    _refuse_known(card, films, root)
    answered, logits, told = _ask(load_classifier(card.name, root), dataset.root, films, progress)
    return SiteFilms(
        table=ValidationTable(
            files=tuple(film.file for film in answered),
            patients=tuple(film.patient for film in answered),
            copies=(PLAIN,) * len(answered),
            labels=card.labels,
            y_true=targets(answered, fitted).astype(np.int8),
            logits=np.array(logits, np.float32),
        ),
        source=f"the folder '{folder.resolve().name}'",
        digest=_digest_of(answered),
        notes=(*dataset.notes, *notes, *told),
    )


def films_of_scores(
    card: ModelCard,
    predictions: bytes,
    labels: bytes,
    *,
    names: tuple[str, str] = ("P.csv", "L.csv"),
    root: Path | None = None,
) -> SiteFilms:
    """Bring scores that this model made (`predict --csv`) together with what is true.

    Args:
        card: The model's.
        predictions: The CSV file of the scores.
        labels: The CSV file of what is true, as `scores.read_scores` takes it.
        names: What errors call the two.
        root: Of the models.

    Raises:
        DataError: When the files cannot be used, a finding of the model is missing, other
            operating points than the model's stand beside the scores, or the model's own films
            are among them.
    """
    found = read_scores(predictions, labels, names=names)
    place = {key_of(label): k for k, label in enumerate(found.table.labels)}
    missing = [label for label in card.labels if key_of(label) not in place]
    if missing:
        raise DataError(
            f"'{names[0]}' and '{names[1]}' must both tell every finding of '{card.name}', but "
            f"{', '.join(missing)} is missing. Write the scores with `python -m cxr_core predict "
            f"--model {card.name} --csv`, and add what is true of each."
        )
    order = [place[key_of(label)] for label in card.labels]
    _refuse_other_points(card, [found.operating_points[k] for k in order], names[0])
    table = replace(
        found.table,
        labels=card.labels,
        y_true=found.table.y_true[:, order],
        y_score=found.table.y_score[:, order],
    )
    pairs = zip(table.files, table.patients, strict=True)
    films = [Film(file, (), patient, None, file) for file, patient in pairs]
    _refuse_known(card, films, root)
    return SiteFilms(
        table=ValidationTable(
            files=table.files,
            patients=table.patients,
            copies=(PLAIN,) * len(films),
            labels=card.labels,
            y_true=table.y_true,
            logits=logits_behind(card, table).astype(np.float32),
        ),
        source=f"the scores '{names[0]}'",
        digest=hashlib.sha256(predictions + labels).hexdigest(),
        notes=found.notes,
    )


def _refuse_other_points(card: ModelCard, came: Sequence[float | None], name: str) -> None:
    """Refuse scores that another version of the model made."""
    for label, own, other in zip(card.labels, card.operating_points, came, strict=True):
        if own is not None and other is not None and abs(own - other) > SAME_POINT:
            raise DataError(
                f"'{name}' has the operating point {other:.3f} for {label}, but '{card.name}' "
                f"(version {card.version}) flags from {own:.3f}: another version made these "
                "scores. Make them again with this one."
            )


def _refuse_training(card: ModelCard, dataset: DatasetIndex, recipe: Recipe) -> None:
    """Refuse the folder that a model was trained on, known by the digests of its films."""
    digests = [_digest_of(dataset.films)]
    try:
        dealt = deal(dataset, fit_labels(recipe, dataset), card.training.get("seed", 0))
        digests.append(seen_digest(dealt))
    except DataError:
        pass  # a folder that this recipe cannot deal is not the one that it trained on
    if card.data_digest in digests:
        raise DataError(
            f"'{dataset.root}' is the folder that '{card.name}' was trained on: its own films say "
            "nothing of how it does elsewhere. Give films of your site that it has never seen."
        )


def _refuse_known(card: ModelCard, films: Sequence[Film], root: Path | None) -> None:
    """Refuse films that chose or tested a model, known by name and, where told, by patient."""
    folder, known = model_folder(card.name, root), dict[str, set[str]]()
    tables: list[ValidationTable | PredictionTable] = [load_predictions(card.name, root)]
    if (folder / "validation.csv").is_file():
        with reading(folder / "validation.csv"):
            tables.append(read_validation(folder / "validation.csv"))
    for table in tables:
        for file, patient in zip(table.files, table.patients, strict=True):
            known.setdefault(_name(file), set()).add("" if patient == file else patient)
    seen = [film.file for film in films if _same_patient(film, known.get(_name(film.file)))]
    if seen:
        raise DataError(
            f"{len(seen)} of {len(films)} films, such as '{seen[0]}', bear the names of films that "
            f"chose or tested '{card.name}': they cannot check it. Take them out; or, if they are "
            "others, give them other names."
        )


def _same_patient(film: Film, patients: set[str] | None) -> bool:
    """Say whether a film of a known name may be of a known patient; "" is an unknown one."""
    if patients is None:
        return False
    return film.patient == film.file or bool(patients & {"", film.patient})


def _name(file: str) -> str:
    return PurePosixPath(file.replace("\\", "/")).name.lower()


def _digest_of(films: Iterable[Film]) -> str:
    return seen_digest({"train": tuple(films), "validation": ()})


def _once(films: Sequence[Film]) -> tuple[tuple[Film, ...], tuple[str, ...]]:
    """Count films that are byte for byte the same once.

    Raises:
        DataError: When two of them are labelled differently.
    """
    again = set()
    for group in duplicates(films):
        if len({frozenset(film.findings) for film in group}) > 1:
            raise DataError(
                f"'{group[0].file}' and '{group[1].file}' are the same film, labelled "
                "differently. Leave one of them."
            )
        again |= {film.file for film in group[1:]}
    kept = tuple(film for film in films if film.file not in again)
    return kept, (f"Byte-identical copies, counted once: {len(again)}.",) if again else ()


def _ask(
    classifier: Classifier, root: Path, films: Sequence[Film], progress: Progress | None
) -> tuple[list[Film], list[list[float]], list[str]]:
    """Return the films that get an answer, their logits, and how many get none.

    Raises:
        DataError: When none gets one.
    """
    answered, logits, unread, refused = [], [], [], []
    for done, film in enumerate(films, 1):
        try:
            radiograph = read_film(root, film)
        except ImageError:
            unread.append(film.file)
            continue
        found = answer(
            radiograph, classifier.card, classifier.predict, age_years=film.age_years
        ).prediction
        if found is None:
            refused.append(film.file)
        else:
            answered.append(film)
            logits.append([one.logit for one in found.labels])
        if progress:
            progress("Asking about films", done, len(films))
    kinds = (("Refused by the gate, as in use", refused), ("Not readable", unread))
    told = [f"{what}: {len(names)}, such as '{names[0]}'." for what, names in kinds if names]
    if not answered:
        raise DataError(f"No film of '{root}' gets an answer. {' '.join(told)}")
    return answered, logits, told
