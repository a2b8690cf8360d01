"""Command line of the second opinion; the commands themselves are in `commands`."""

import argparse
import os
import sys
from collections.abc import Sequence

from cxr_core.commands import add_commands
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
    add_commands(parser.add_subparsers(title="commands", required=True, metavar="COMMAND"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
