"""Command line of the second opinion: parses, calls, prints."""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr_core.errors import ArgumentError, CxrError, DataError, UnknownName


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 unusable arguments)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow talks on stderr otherwise
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except CxrError as error:
        print(f"cxr_core: {error}", file=sys.stderr)
        return 2 if isinstance(error, ArgumentError | UnknownName | DataError) else 1
    except BrokenPipeError:
        # The reader of our output (head, less) left; that is not a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("cxr_core: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cxr_core",
        description="A second opinion on chest radiographs. For research, not for diagnosis.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="models with labels and headline numbers")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_list)

    command = commands.add_parser("predict", help="answer films and folders of films")
    command.add_argument("films", nargs="+", metavar="FILE|FOLDER")
    command.add_argument("--model", required=True)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per film")
    form.add_argument("--csv", metavar="OUT", type=Path, help="write a table")
    command.add_argument("--no-gate", action="store_true", help="answer refused films too")
    command.set_defaults(run=_predict)

    command = commands.add_parser("explain", help="draw where the evidence for a label lies")
    command.add_argument("film", metavar="FILE", type=Path)
    command.add_argument("--model", required=True)
    command.add_argument("--label", required=True)
    command.add_argument("--method", default="grad-cam")
    starts = ("black", "blurred", "mean")
    command.add_argument("--baseline", choices=starts, help="where integrated gradients start")
    command.add_argument("--absence", action="store_true", help="what speaks against the label")
    command.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.png")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_explain)

    command = commands.add_parser("index", help="count a data folder: classes, patients, splits")
    command.add_argument("folder", type=Path)
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--no-decode", action="store_true", help="do not try to read each film")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_index)

    command = commands.add_parser("shards", help="write a data folder as TFRecord shards")
    command.add_argument("folder", type=Path)
    command.add_argument("-o", "--output", required=True, type=Path, metavar="OUT")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--per-shard", type=int, default=438, help="films in a shard")
    command.add_argument("--size", type=int, default=600, help="side of the square, in pixels")
    command.set_defaults(run=_shards)

    command = commands.add_parser("train", help="run a recipe from a folder to a model")
    command.add_argument("recipe", help='or "gate", the network that looks at films beforehand')
    command.add_argument("--data", required=True, type=Path, metavar="FOLDER")
    command.add_argument("--name", help="of the new model; the recipe's own by default")
    command.add_argument("--weights", metavar="imagenet|FILE|none", help="weights to start from")
    command.add_argument("--backbone", help="instead of the recipe's, where it has one")
    command.add_argument("--epochs", type=int)
    command.add_argument(
        "--epoch", type=int, help="train nothing; register this epoch of a finished training"
    )
    command.add_argument("--trained-as", metavar="NAME", help="whose epoch that is")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--resume", action="store_true", help="continue an interrupted training")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=_train)

    command = commands.add_parser("evaluate", help="score a model, or any other system's scores")
    whose = command.add_mutually_exclusive_group(required=True)
    whose.add_argument("--model", help="of ours, on a split of a data folder")
    whose.add_argument("--predictions", type=Path, metavar="P.csv", help="scores of any system")
    command.add_argument("--data", type=Path, metavar="FOLDER")
    command.add_argument("--split", help="test by default")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--labels", type=Path, metavar="L.csv", help="what is true of the films")
    command.add_argument("--threshold", type=float, metavar="T", help="operating point, 0 to 1")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_evaluate, refuse=command.error)

    command = commands.add_parser("records", help="take away or forget what was kept")
    command.add_argument("what", choices=("export", "opinions", "erase"))
    command.add_argument("digest", nargs="?", help="of one film, as export prints it")
    command.set_defaults(run=_records)

    command = commands.add_parser("faithfulness", help="measure how far maps can be trusted")
    command.add_argument("--model", required=True)
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    command.add_argument("--films", type=int, metavar="N", help="of each label")
    command.add_argument("--methods", nargs="+", metavar="METHOD", help="measured anew; else all")
    command.add_argument("--sister", metavar="NAME", help="the same model of another seed")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_faithfulness)
    return parser


class _Progress:
    """Show progress on stderr: a line that rewrites itself, or a line now and then in a log."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = float("-inf")

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        finished = done == total or "loss" in what
        if not finished and now - self._last < (0.1 if self._live else 15):
            return
        self._last = now
        end = "\n" if finished or not self._live else ""
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    # ASCII, so that no file name can break the stream.
    print(json.dumps(value, allow_nan=False), flush=True)


def _list(options: argparse.Namespace) -> None:
    from cxr_core.cards import list_models, load_evaluation, model_folder

    models = list_models()
    if not models and not options.json:
        print("No models yet. Train one: python -m cxr_core train RECIPE --data FOLDER")
    for card in models:
        told = {"model": card.name, "labels": card.labels, "macro": None}
        try:
            report = load_evaluation(card.name)
        except CxrError as error:  # one damaged record must not hide the other models
            if options.json:
                _print_json(told | {"error": str(error)})
            else:
                print(f"{card.name}  ({card.version})\n  {error}")
            continue
        if options.json:
            _print_json(told | {"macro": report.to_json()["macro"]})
            continue
        print(f"{card.name}  ({card.version}, {report.n} test films)")
        for label in report.labels:
            print(f"  {label.label}: {_headline(label)}")
        if not (model_folder(card.name) / "model.keras").is_file():
            print(f"  No weights: python -m cxr_core train {card.recipe} --data FOLDER makes them.")


def _headline(label: Any) -> str:
    """One line of numbers with 95 % intervals."""
    named = {
        "AUROC": label.auroc,
        "sensitivity": label.sensitivity,
        "specificity": label.specificity,
        "accuracy": label.accuracy,
    }
    return ", ".join(
        f"{name} {item.value:.3f} ({item.low:.3f}-{item.high:.3f})"
        if item.low is not None
        else f"{name} {item.value:.3f}"
        for name, item in named.items()
        if item.value is not None
    )


def _predict(options: argparse.Namespace) -> None:
    from cxr_core.cards import load_card
    from cxr_core.screening import find_films, screen

    card = load_card(options.model)
    files = find_films(options.films)
    if options.csv:
        _touch(options.csv)  # a place that cannot be written is told before the wait
    table: list[dict[str, Any]] = []
    progress = _Progress()
    from cxr_core.classifier import load_classifier

    answers = screen(load_classifier(card.name), files, gate=not options.no_gate)
    for done, answer in enumerate(answers, 1):
        row = answer.to_json(card.name)
        if options.json:
            _print_json(row)
        elif options.csv:
            table.append(row)
        else:
            print(_sentence(row), flush=True)
        progress("Films", done, len(files))
    if options.csv:
        _write_table(options.csv, table, card.labels)


def _touch(path: Path) -> None:
    try:
        path.open("a").close()
    except OSError as error:
        raise ArgumentError(
            f"'{path}' cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error


def _sentence(row: dict[str, Any]) -> str:
    """Say in one line what became of one film."""
    from cxr_core.ui.reading import told_apart

    if not row["ok"]:
        return f"{row['file']}: not read. {row['error']}"
    if not row["predictions"]:
        reasons = [c["reason"] for c in row["gate"]["checks"] if c["verdict"] == "refuse"]
        return f"{row['file']}: refused. {' '.join(reasons)}"
    answers = []
    for item in row["predictions"]:
        value, point = told_apart(item["probability"], item["operating_point"])
        limit = f", operating point {point}" if point else ""
        word = "flag" if item["flag"] else "no flag"
        unsure = ", cannot tell" if item["cannot_tell"] else ""
        answers.append(f"{item['label']} {value} ({word}{limit}{unsure})")
    cautions = [c["reason"] for c in row["gate"]["checks"] if c["verdict"] != "ok"]
    return " ".join([f"{row['file']}: {'; '.join(answers)}.", *cautions])


def _write_table(path: Path, rows: list[dict[str, Any]], labels: tuple[str, ...]) -> None:
    fixed = ["file", "ok", "gate", "error"]
    each = ["probability", "operating_point", "flag", "cannot_tell"]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow([*fixed, *(f"{name}_{label}" for label in labels for name in each)])
        for row in rows:
            gate = (row.get("gate") or {}).get("verdict", "")
            cells = [item[name] for item in row.get("predictions", ()) for name in each]
            writer.writerow([row["file"], row["ok"], gate, row.get("error", ""), *cells])


def _explain(options: argparse.Namespace) -> None:
    from cxr_core.cards import load_card

    load_card(options.model).position(options.label)  # a wrong name is told before the wait
    from cxr_core.classifier import load_classifier
    from cxr_core.export import export_explanation

    asked = (options.film, options.label, options.method, options.output)
    told = export_explanation(
        load_classifier(options.model), *asked, absence=options.absence, baseline=options.baseline
    )
    if options.json:
        _print_json(told)
    else:
        gap = told["relative_gap"]
        check = f", completeness gap {gap:.2%}" if gap is not None else ""
        place = f"nothing on the film speaks {'against' if options.absence else 'for'} it"
        if told["peak"]:
            place = f"strongest at x {told['peak'][0]}, y {told['peak'][1]}"
        print(
            f"{options.label} {told['probability']:.2f}, {options.method}: {place}{check}. "
            f"Wrote {told['output']}"
        )


def _index(options: argparse.Namespace) -> None:
    from cxr_core.datasets import index, inspect, summarise

    dataset = index(options.folder, options.layout, _Progress(), skip_damaged=options.skip_damaged)
    inspection = None if options.no_decode else inspect(dataset, _Progress())
    told = summarise(dataset, inspection)
    if options.json:
        _print_json(told)
        return
    print(
        f"{told['films']} films of {told['patients']} patients in {told['folder']} "
        f"({told['layout']})"
    )
    for split, part in told["splits"].items():
        counts = ", ".join(f"{name} {count}" for name, count in part["findings"].items())
        print(f"  {split}: {part['films']} films, {part['patients']} patients; {counts}")
    if told["sources"]:
        print(f"Sources: {', '.join(f'{name} {count}' for name, count in told['sources'].items())}")
    if told["boxes"]:
        print(f"Films with boxes: {told['boxes']}")
    _print_list("In more than one split", told["overlap"], "nobody")
    _print_list("Byte-identical groups", [" = ".join(group) for group in told["duplicates"]])
    if inspection is not None:
        sizes = [f"{width} x {height}: {films} films" for width, height, films in told["sizes"]]
        _print_list("Sizes in pixels", sizes)
        broken = [f"{item['file']}: {item['reason']}" for item in told["unreadable"]]
        _print_list("Unreadable films", broken)
    _print_list("Notes", told["notes"])


def _print_list(title: str, lines: Sequence[str], empty: str = "none") -> None:
    """Print how many there are, and the first five."""
    print(f"{title}: {len(lines) or empty}")
    for line in lines[:5]:
        print(f"  {line}")
    if len(lines) > 5:
        print(f"  and {len(lines) - 5} more (all of them with --json)")


def _shards(options: argparse.Namespace) -> None:
    from cxr_core.datasets import index, write_shards

    dataset = index(options.folder, options.layout, _Progress())
    shards = write_shards(
        dataset,
        options.output,
        per_shard=options.per_shard,
        size=options.size,
        progress=_Progress(),
    )
    print(
        f"{len(dataset.films)} films lie in {options.output}, as {len(shards)} shards of "
        f"{options.size} x {options.size} pixels; preprocessed_data.csv there has their labels."
    )


def _train(options: argparse.Namespace) -> None:
    if options.recipe == "gate":
        _train_gate(options)
        return
    from cxr_core.recipes import get_recipe

    recipe = get_recipe(options.recipe)
    weights = None if options.weights == "none" else options.weights
    if weights is None and "backbone" in recipe.options:
        print(
            f"No --weights: the backbone of '{recipe.name}' starts from random weights, not from "
            "pretrained ones.",
            file=sys.stderr,
        )
    from cxr_core.release import train

    folder = train(
        recipe,
        options.data,
        name=options.name,
        epochs=options.epochs,
        epoch=options.epoch,
        trained_as=options.trained_as,
        layout=options.layout,
        backbone=options.backbone,
        seed=options.seed,
        resume=options.resume,
        weights=weights,
        skip_damaged=options.skip_damaged,
        progress=_Progress(),
    )
    _print_record(folder.name)


def _train_gate(options: argparse.Namespace) -> None:
    """Train the gate's own network, which is no recipe: it reads several folders at once."""
    given = ("name", "weights", "backbone", "epochs", "epoch", "trained_as", "layout")
    odd = [f"--{name.replace('_', '-')}" for name in given if getattr(options, name) is not None]
    if odd:
        raise ArgumentError(f"The gate takes only --data, --seed and --resume, not {odd[0]}.")
    from cxr_core.gate_training import train_gate

    folder = train_gate(
        options.data, seed=options.seed, resume=options.resume, progress=_Progress()
    )
    for rate in json.loads((folder / "evaluation.json").read_text("utf-8"))["rates"]:
        share = "no films" if rate["share"] is None else f"{rate['share']:.1%}"
        print(f"{rate['group']} ({rate['network']}): {share} of {rate['n']} {rate['asked']}")


def _print_record(name: str) -> None:
    """Print a new model's test record, what its source reported, and our better model's."""
    from cxr_core.cards import list_models, load_card, load_evaluation

    report, facts = load_evaluation(name), load_card(name).training
    twice = f"patients or films on two sides: {facts['in_two_parts']}"
    if not facts["patients_known"]:
        twice = "patients are not known"
    print(
        f"{name}: {facts['films']} films trained, {facts['validation_films']} chose, "
        f"{facts['test_films']} are scored; {twice}"
    )
    for note in facts["notes"]:
        print(note)
    for label in report.labels:
        print(f"{label.label}: {_headline(label)}")
        if label.confusion is not None:
            (tn, fp), (fn, tp) = label.confusion
            print(
                f"  tn {tn}, fp {fp}, fn {fn}, tp {tp}; precision {_share(label.ppv.value)}, "
                f"recall {_share(label.sensitivity.value)}, F1 {_share(label.f1)}, "
                f"support {label.positives}"
            )
    for figure, value in facts["reported"].items():
        here = facts["as_sources_count"].get(figure)
        print(f"As the source counts, {figure}: {_share(here)} here, {value:.3f} there")
    for name_of, area in facts.get("control", {}).get("auroc", {}).items():
        print(f"With the middle blacked out, {name_of}: AUROC {_share(area[0])}")
    better = facts["better"]
    if better in {other.name for other in list_models()}:
        for label in load_evaluation(better).labels:
            print(f"Our better way, {better}, {label.label}: {_headline(label)}")


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _evaluate(options: argparse.Namespace) -> None:
    _require_companions(options)
    report = _evaluate_model(options) if options.predictions is None else _evaluate_scores(options)
    if options.json:
        _print_json(report.to_json())
        return
    for note in report.notes:
        print(note)
    for label in report.labels:
        print(f"{label.label}, {label.n} films: {_headline(label)}")
        if label.confusion is not None:
            (tn, fp), (fn, tp) = label.confusion
            print(f"  tn {tn}, fp {fp}, fn {fn}, tp {tp}")
        for note in label.notes:
            print(f"  {note}")


def _require_companions(options: argparse.Namespace) -> None:
    """End with the usage where an option is missing, or belongs to the other kind of scores."""
    whose, needs, of_other = "model", "data", ["labels", "threshold"]
    if options.predictions is not None:
        whose, needs, of_other = "predictions", "labels", ["data", "split", "layout"]
        of_other += ["skip_damaged"] * options.skip_damaged
    for name in of_other:
        if getattr(options, name) is not None:
            told = name.replace("_", "-")
            options.refuse(f"argument --{told}: not allowed with argument --{whose}")
    if getattr(options, needs) is None:
        options.refuse(f"argument --{needs}: required with argument --{whose}")


def _evaluate_model(options: argparse.Namespace) -> Any:
    from cxr_core.cards import load_card
    from cxr_core.predictions import evaluate_table
    from cxr_core.recipes import get_recipe

    card = load_card(options.model)
    recipe = get_recipe(card.recipe)
    from cxr_core.classifier import load_classifier
    from cxr_core.release import score_split

    table = score_split(
        load_classifier(card.name),
        recipe,
        options.data,
        options.split or "test",
        _Progress(),
        layout=options.layout,
        skip_damaged=options.skip_damaged,
    )
    return evaluate_table(
        table,
        card.operating_points,
        model=card.name,
        exclusive=card.activation == "softmax",
    )


def _evaluate_scores(options: argparse.Namespace) -> Any:
    from cxr_core.scores import evaluate_scores, read_score_files

    scores = read_score_files(options.predictions, options.labels)
    return evaluate_scores(
        scores,
        model=options.predictions.stem,
        threshold=options.threshold,
        advice="Give another with --threshold.",
    )


def _faithfulness(options: argparse.Namespace) -> None:
    from cxr_core.faithfulness import measure

    report = measure(
        options.model,
        options.data,
        films=options.films,
        methods=options.methods,
        sister=options.sister,
        layout=options.layout,
        progress=_Progress(),
    )
    if options.json:
        _print_json(report.to_json())
        return
    for note in report.notes:
        print(note)
    for entry in report.entries:
        print(f"{entry.label}, {entry.method}: {entry.sentence}")


def _records(options: argparse.Namespace) -> None:
    from cxr_core.records import Records, wanted

    if not wanted():
        raise ArgumentError("No records are kept: CXR_RECORDS is off.")
    records = Records()
    if options.what == "opinions":
        print(records.opinions_csv(), end="")
    elif options.what == "export":
        _print_json(records.export(options.digest))
    elif options.digest is None:
        raise ArgumentError("Which film is to be forgotten? Give its digest, as export prints it.")
    else:
        print(f"{records.erase(options.digest)} rows forgotten.")


if __name__ == "__main__":
    sys.exit(main())
