"""What a server of ours tells its log."""

import logging


def ours_to_stderr() -> None:
    """Let out our own lines alone: what libraries say may quote a header or a file's name."""
    logging.basicConfig(handlers=[logging.NullHandler()])
    logging.captureWarnings(True)
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    ours = logging.getLogger("cxr_core")
    ours.addHandler(lines)
    ours.setLevel(logging.INFO)
    ours.propagate = False


def silence(*names: str) -> None:
    """Have loggers of libraries say nothing, whatever level the program is set to."""
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
