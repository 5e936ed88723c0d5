"""Models with a loop, a large tensor or a trap inside, made from a good one by editing its tables.

The flatbuffer classes come with the interpreter, so nothing here needs TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_BOOL, _INT32, _FLOAT32 = 6, 2, 0
_ADD, _LESS, _WHILE, _FILL, _CAST, _IF = 0, 58, 119, 94, 53, 118
_SLICE, _RESHAPE, _LOGICAL_AND, _CALL_ONCE, _FULLY_CONNECTED = 65, 22, 86, 129, 9


class Edit:
    """A model taken apart.

    Args:
        model: A TFLite file.
    """

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))

    def done(self) -> bytes:
        """The edited file."""
        import flatbuffers

        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def code(self, builtin: int) -> int:
        """Index of an operator code, added if need be."""
        for index, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == builtin:
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def tensor(self, graph: Any, shape: list[int], dtype: int, value: np.ndarray | None = None) -> int:
        """Index of a new tensor of a graph, constant if it has a value."""
        tensor, buffer = self.schema.TensorT(), self.schema.BufferT()
        if value is not None:
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.shape, tensor.type, tensor.buffer = shape, dtype, len(self.model.buffers) - 1
        tensor.name = f"edit{len(graph.tensors)}".encode()
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def operator(self, graph: Any, builtin: int, inputs: list[int], outputs: list[int], options: Any = None) -> None:
        """Append an operator to a graph."""
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self.code(builtin), inputs, outputs
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        graph.operators.append(made)

    def graph(self, inputs: int, build: Any) -> int:
        """Index of a new subgraph of int32 scalars; `build` gets it and its inputs, and returns its outputs."""
        graph = self.schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = [], [], f"graph{len(self.model.subgraphs)}".encode()
        graph.inputs = [self.tensor(graph, [1], _INT32) for _ in range(inputs)]
        graph.outputs = build(graph, graph.inputs)
        self.model.subgraphs.append(graph)
        return len(self.model.subgraphs) - 1

    def loop(self, times: int | None) -> None:
        """Count to `times` at every inference; for ever where it is None."""
        s = self.schema

        def below(graph: Any, given: list[int]) -> list[int]:
            out = self.tensor(graph, [1], _BOOL)
            limit = self.tensor(graph, [1], _INT32, np.array([2**31 - 1 if times is None else times], np.int32))
            self.operator(graph, _LESS, [given[0], limit], [out], s.LessOptionsT())
            return [out]

        def count(graph: Any, given: list[int]) -> list[int]:
            out = self.tensor(graph, [1], _INT32)
            step = self.tensor(graph, [1], _INT32, np.array([0 if times is None else 1], np.int32))
            self.operator(graph, _ADD, [given[0], step], [out], s.AddOptionsT())
            return [out]

        options = s.WhileOptionsT()
        options.condSubgraphIndex = self.graph(1, below)
        options.bodySubgraphIndex = self.graph(1, count)
        main = self.model.subgraphs[0]
        start = self.tensor(main, [1], _INT32, np.array([0], np.int32))
        self.operator(main, _WHILE, [start], [self.tensor(main, [1], _INT32)], options)

    def ballast(self, numbers: int) -> None:
        """Fill a tensor of so many float32 at every inference."""
        main = self.model.subgraphs[0]
        shape = self.tensor(main, [1], _INT32, np.array([numbers], np.int32))
        value = self.tensor(main, [], _FLOAT32, np.array(1.0, np.float32))
        self.operator(main, _FILL, [shape, value], [self.tensor(main, [numbers], _FLOAT32)], self.schema.FillOptionsT())

    def trap(self, low: int | None = None, high: int = 0, *, hangs: bool = False) -> None:
        """Crash the process at an inference, or never return from one; a load shows nothing.

        Args:
            low: Only where red at the upper left is between `low` and `high`, 0..255; None: always.
            high: See `low`.
            hangs: Never return, instead of a crash.
        """
        s, main = self.schema, self.model.subgraphs[0]
        sprung = self._snare(hangs)
        if low is None:
            self._once(main, sprung)
            return
        given = main.inputs[0]
        one = self.tensor(main, [1, 1, 1, 1], main.tensors[given].type)
        main.tensors[one].quantization = main.tensors[given].quantization
        begin = self.tensor(main, [4], _INT32, np.zeros(4, np.int32))
        size = self.tensor(main, [4], _INT32, np.ones(4, np.int32))
        self.operator(main, _SLICE, [given, begin, size], [one], s.SliceOptionsT())
        whole, flat = self.tensor(main, [1, 1, 1, 1], _INT32), self.tensor(main, [1], _INT32)
        cast, reshape = s.CastOptionsT(), s.ReshapeOptionsT()
        cast.inDataType, cast.outDataType, reshape.newShape = main.tensors[given].type, _INT32, [1]
        self.operator(main, _CAST, [one], [whole], cast)
        shape = self.tensor(main, [1], _INT32, np.array([1], np.int32))
        self.operator(main, _RESHAPE, [whole, shape], [flat], reshape)
        above, under, both = (self.tensor(main, [1], _BOOL) for _ in range(3))
        floor = self.tensor(main, [1], _INT32, np.array([low - 128], np.int32))
        ceiling = self.tensor(main, [1], _INT32, np.array([high - 128], np.int32))
        self.operator(main, _LESS, [floor, flat], [above], s.LessOptionsT())
        self.operator(main, _LESS, [flat, ceiling], [under], s.LessOptionsT())
        self.operator(main, _LOGICAL_AND, [above, under], [both], s.LogicalAndOptionsT())

        def spring(graph: Any, inner: list[int]) -> list[int]:
            self._once(graph, sprung)
            return inner

        options = s.IfOptionsT()
        options.thenSubgraphIndex = self.graph(1, spring)
        options.elseSubgraphIndex = self.graph(1, lambda _, inner: inner)
        self.operator(main, _IF, [both, flat], [self.tensor(main, [1], _INT32)], options)

    def _once(self, graph: Any, body: int) -> None:
        """Run a subgraph at the first inference; unlike a loop's, it is looked at only then."""
        options = self.schema.CallOnceOptionsT()
        options.initSubgraphIndex = body
        self.operator(graph, _CALL_ONCE, [], [], options)

    def _snare(self, hangs: bool) -> int:
        """Index of a subgraph without inputs that ends the process: its loop runs itself, or for ever."""
        s, graph = self.schema, self.schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs, graph.name = [], [], [], [], b"snare"
        self.model.subgraphs.append(graph)
        options = s.WhileOptionsT()
        options.condSubgraphIndex = self.graph(1, self._always)
        body = len(self.model.subgraphs)

        def again(inner: Any, given: list[int]) -> list[int]:
            if hangs:
                return given
            out, deeper = self.tensor(inner, [1], _INT32), s.WhileOptionsT()
            deeper.condSubgraphIndex, deeper.bodySubgraphIndex = options.condSubgraphIndex, body
            self.operator(inner, _WHILE, [given[0]], [out], deeper)
            return [out]

        options.bodySubgraphIndex = self.graph(1, again)
        start = self.tensor(graph, [1], _INT32, np.array([0], np.int32))
        self.operator(graph, _WHILE, [start], [self.tensor(graph, [1], _INT32)], options)
        return self.model.subgraphs.index(graph)

    def _always(self, graph: Any, given: list[int]) -> list[int]:
        out = self.tensor(graph, [1], _BOOL)
        limit = self.tensor(graph, [1], _INT32, np.array([2**31 - 1], np.int32))
        self.operator(graph, _LESS, [given[0], limit], [out], self.schema.LessOptionsT())
        return [out]

    def crash_at_load(self) -> None:
        """A loop whose body is the loop itself: the interpreter prepares it without end."""
        s, body = self.schema, len(self.model.subgraphs) + 1
        options = s.WhileOptionsT()
        options.condSubgraphIndex, options.bodySubgraphIndex = self.graph(1, self._always), body

        def itself(graph: Any, given: list[int]) -> list[int]:
            out = self.tensor(graph, [1], _INT32)
            self.operator(graph, _WHILE, [given[0]], [out], options)
            return [out]

        self.graph(1, itself)
        main = self.model.subgraphs[0]
        start = self.tensor(main, [1], _INT32, np.array([0], np.int32))
        self.operator(main, _WHILE, [start], [self.tensor(main, [1], _INT32)], options)

    def forget(self) -> None:
        """Put zeros where the last layer's weights are: the same scores for every picture."""
        main = self.model.subgraphs[0]
        layers = [o for o in main.operators if self.model.operatorCodes[o.opcodeIndex].builtinCode == _FULLY_CONNECTED]
        buffer = self.model.buffers[main.tensors[layers[-1].inputs[1]].buffer]
        buffer.data = np.zeros(len(buffer.data), np.uint8)
