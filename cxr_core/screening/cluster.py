"""The same work on a Ray cluster: actors with a model each, fed by Ray Data.

Every node needs this package, the models and the films, under the paths they have here; the
parts come back to this process, which alone writes.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator

import pyarrow as pa

from cxr_core.cards import models_root
from cxr_core.classifier import load_classifier
from cxr_core.errors import ArgumentError, DataError, ModelError
from cxr_core.screening.job import Engine, Job, Told, answer_parts, weights_of
from cxr_core.screening.parts import batches

# Of an actor. One processor: some decoders let no other thread of their process work. Two threads:
# one waits for the disk while the other decodes.
PROCESSORS, READERS = 1, 2
# Parts handed over at a time, a million films: this process holds no more paths than those.
WAVE = 4096
# Seconds until an address counts as one where nobody is.
PATIENCE = 10
ROW = pa.schema({"number": pa.int64(), "content": pa.binary()})


class Screener:
    """An actor: it loads its model once, and answers one part after the other."""

    def __init__(self, job: Job, models: str) -> None:
        """Load the model, in the folder where the job was given.

        Raises:
            ModelError: When this node has another model of that name.
        """
        os.environ["CXR_MODELS"] = models
        os.environ["OMP_NUM_THREADS"] = str(PROCESSORS)  # of the network, too: the rest are others'
        os.chdir(job.folder)
        if weights_of(job.model) != job.weights:
            raise ModelError(
                f"'{models}' on {socket.gethostname()} holds another '{job.model}' than this "
                "machine; give every node the same models."
            )
        self._classifier, self._contours = load_classifier(job.model), job.contours

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Turn rows of a part's number and its films (JSON) into rows of number and Parquet."""
        parts = ((row["number"], json.loads(row["content"])) for row in rows.to_pylist())
        answered = answer_parts(
            self._classifier, parts, _nobody, contours=self._contours, readers=READERS
        )
        return pa.table(list(zip(*answered, strict=True)), ROW)


def _nobody(more: int) -> None:
    """Take no notice of progress: an actor tells it by its parts."""


def on_cluster(job: Job, address: str) -> Engine:
    """Answer on a Ray cluster that runs already, or on one made here by address "local".

    Raises:
        ArgumentError: When Ray is not installed, or nothing answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a hospital's network is closed
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ArgumentError(
            "Ray is not installed; run `pip install 'ray[data]==2.60.0'`, here and on every node."
        ) from error
    try:
        _knock(address)
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="error")
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"No Ray cluster answers at '{address}'; give the address that `ray start --head` "
            "prints, or 'local'."
        ) from error

    def engine(parts: Iterator[tuple[int, list[str]]], told: Told) -> Iterator[tuple[int, bytes]]:
        for wave in batches(parts, WAVE):
            sizes = {number: len(films) for number, films in wave}
            for number, content in _answered(job, wave):
                told(sizes[number])
                yield number, content

    return engine


def _knock(address: str) -> None:
    """Find out whether anybody is there: Ray itself tries for minutes, and then ends the process.

    Raises:
        OSError: When nobody is.
        ValueError: When the port is no number.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:  # else "local" or "auto"
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def _answered(job: Job, parts: list[tuple[int, list[str]]]) -> Iterator[tuple[int, bytes]]:
    """Let Ray Data take parts through the actors; they come back in any order.

    Raises:
        DataError: When an actor cannot work, or too many of them die.
    """
    import ray
    from ray.exceptions import RayError

    # One part is one block, so that each comes back as soon as it is answered.
    rows = ([[number], [json.dumps(films).encode()]] for number, films in parts)
    blocks = [ray.put(pa.table(row, schema=ROW)) for row in rows]
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    most = max(1, int(ray.cluster_resources().get("CPU", 0)) // PROCESSORS)
    answered = ray.data.from_arrow_refs(blocks).map_batches(
        Screener,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=PROCESSORS,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        fn_constructor_args=(job, str(models_root().resolve())),
    )
    try:
        for table in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in table.to_pylist():
                yield row["number"], row["content"]
    except RayError as error:
        told = str(error).strip().splitlines()[-1]
        raise DataError(
            f"The cluster gave up: {told.removesuffix('.')}. Mend that, and run the same command "
            "again: it goes on where it was."
        ) from error
