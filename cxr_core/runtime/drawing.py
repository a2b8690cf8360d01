"""A graph as it grows: its nodes and its weights, each with a name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Of ONNX: any runtime since 2022 reads it.
OPSET, FORMAT = 17, 8

Shape = Sequence[int | str]


class Drawing:
    """Operations after one another, from what the graph is given to what it gives.

    Args:
        nodes: What the graph begins with.
        weights: Those of the nodes.
        prefix: Of all names given here, so that none of the nodes has it.
    """

    def __init__(
        self, nodes: Iterable[Any] = (), weights: Iterable[Any] = (), prefix: str = ""
    ) -> None:
        """Begin with these nodes, or with nothing."""
        self._nodes, self._weights, self._prefix = [*nodes], [*weights], prefix

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append an operation; return the name of what it gives."""
        (name,) = self.add_several(kind, *inputs, outputs=[output], **attributes)
        return name

    def add_several(
        self, kind: str, *inputs: str, outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Append an operation; return the names of all it gives, made up where one is empty."""
        from onnx import helper

        name = f"{self._prefix}{kind}_{len(self._nodes)}"
        made = [f"{name}_{k}" if k else name for k in range(len(outputs))]
        names = [given or one for given, one in zip(outputs, made, strict=True)]
        self._nodes.append(helper.make_node(kind, inputs, names, names[0], **attributes))
        return names

    def hold(self, value: ArrayLike) -> str:
        """Append float32 weights, as float16 where nothing is lost; return their name."""
        from onnx import TensorProto

        exact = np.asarray(value, np.float32, order="C")
        with np.errstate(over="ignore"):
            half = exact.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), exact):
            return self._store(exact)
        return self.add("Cast", self._store(half), to=TensorProto.FLOAT)

    def integers(self, *values: int) -> str:
        """Append integers that an operation takes as an input; return their name."""
        return self._store(np.array(values, np.int64))

    def _store(self, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}weights_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def model(self, name: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> Any:
        """Close the graph: say what goes in and what comes out, all of it float32."""
        from onnx import TensorProto, helper

        given, gives = (
            [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end, shape in ends]
            for ends in (inputs.items(), outputs.items())
        )
        read = {name for node in self._nodes for name in node.input}
        weights = [one for one in self._weights if one.name in read]
        graph = helper.make_graph(self._nodes, name, given, gives, weights)
        version = helper.make_operatorsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[version], ir_version=FORMAT)
