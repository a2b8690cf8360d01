"""`index` and `shards`: count a data folder, or write it as TFRecord shards."""

import argparse
from pathlib import Path

from cxr_core.commands.output import Commands, ShownProgress, print_json, print_list


def add_index(commands: Commands) -> None:
    """Add `index`."""
    command = commands.add_parser("index", help="count a data folder: classes, patients, splits")
    command.add_argument("folder", type=Path)
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--skip-damaged", action="store_true", help="leave damaged shards out")
    command.add_argument("--no-decode", action="store_true", help="do not try to read each film")
    command.add_argument("--json", action="store_true")
    command.set_defaults(run=_index)


def _index(options: argparse.Namespace) -> None:
    from cxr_core.datasets import index, inspect, summarise

    dataset = index(
        options.folder, options.layout, ShownProgress(), skip_damaged=options.skip_damaged
    )
    inspection = None if options.no_decode else inspect(dataset, ShownProgress())
    told = summarise(dataset, inspection)
    if options.json:
        print_json(told)
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
    print_list("In more than one split", told["overlap"], "nobody")
    print_list("Byte-identical groups", [" = ".join(group) for group in told["duplicates"]])
    if inspection is not None:
        sizes = [f"{width} x {height}: {films} films" for width, height, films in told["sizes"]]
        print_list("Sizes in pixels", sizes)
        broken = [f"{item['file']}: {item['reason']}" for item in told["unreadable"]]
        print_list("Unreadable films", broken)
    print_list("Notes", told["notes"])


def add_shards(commands: Commands) -> None:
    """Add `shards`."""
    command = commands.add_parser("shards", help="write a data folder as TFRecord shards")
    command.add_argument("folder", type=Path)
    command.add_argument("-o", "--output", required=True, type=Path, metavar="OUT")
    command.add_argument("--layout", help="such as class-folders; found out by default")
    command.add_argument("--per-shard", type=int, default=438, help="films in a shard")
    command.add_argument("--size", type=int, default=600, help="side of the square, in pixels")
    command.set_defaults(run=_shards)


def _shards(options: argparse.Namespace) -> None:
    from cxr_core.datasets import index, write_shards

    dataset = index(options.folder, options.layout, ShownProgress())
    shards = write_shards(
        dataset,
        options.output,
        per_shard=options.per_shard,
        size=options.size,
        progress=ShownProgress(),
    )
    print(
        f"{len(dataset.films)} films lie in {options.output}, as {len(shards)} shards of "
        f"{options.size} x {options.size} pixels; preprocessed_data.csv there has their labels."
    )
