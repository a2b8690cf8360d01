"""A network without Keras: its graph beside model.keras, written, verified and run.

Importing TensorFlow takes seconds and 700 MB, ONNX Runtime a tenth of a second and 50 MB
(docs/performance.md has the numbers, and why it is not OpenVINO). So a bundle carries its
network a second time, and whoever wants an answer, or a map of any kind, never loads the first:

    models/NAME/model.onnx   the network from film to "logits" and "features"
                graph.json   digests of this graph and of the model.keras that it repeats

The weights are those of model.keras to the last bit, as float16 where they are float16
values; normalisations are merged when the graph is loaded. `forward` draws it from a network of
Keras, `backward` draws its gradients from it, when they are first asked for.
"""

from cxr_core.runtime.backward import Start
from cxr_core.runtime.graph import (
    GRAPH,
    NETWORK,
    RECORD,
    SAME_GRADIENTS,
    SAME_LOGITS,
    Graph,
    Told,
    load_graph,
    write_graph,
)

__all__ = [
    "GRAPH",
    "NETWORK",
    "RECORD",
    "SAME_GRADIENTS",
    "SAME_LOGITS",
    "Graph",
    "Start",
    "Told",
    "load_graph",
    "write_graph",
]
