"""A SavedModel, as TensorFlow and Keras export it: one image in, one score vector out.

It is a graph of TensorFlow operators. It is only traced to be lowered; a graph that reads or writes files is refused
by name before that, because tracing may fold it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from edgekit.conversion.noise import captured, load_tensorflow
from edgekit.errors import UnsafeModelError, UsageError

_SIGNATURE = "serving_default"
# Operators that reach outside the graph, by the beginning of their names.
_OUTSIDE = ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "MatchingFiles", "MergeV2Checkpoints", "PrintV2", "Save")


class SavedModel:
    """What `lower` needs of a model: its input's shape, and a call.

    Attributes:
        input_shape: (batch, height, width, channels); batch may be None.
    """

    def __init__(self, loaded: Any, signature: Any, path: Path) -> None:
        # The signature does not keep its variables alive.
        self._loaded, self._signature = loaded, signature
        inputs = signature.structured_input_signature[1]
        if len(inputs) != 1 or len(signature.structured_outputs) != 1:
            raise UsageError(
                f"{path}: {len(inputs)} inputs and {len(signature.structured_outputs)} outputs, one of each wanted"
            )
        ((self._input, spec),) = inputs.items()
        self.input_shape = tuple(spec.shape.as_list())
        if len(self.input_shape) != 4 or not all(isinstance(n, int) for n in self.input_shape[1:]):
            raise UsageError(
                f"{path}: it reads {list(self.input_shape)}; fixed (batch, height, width, channels) needed"
            )

    def __call__(self, image: Any, training: bool = False) -> Any:
        """The scores."""
        (scores,) = self._signature(**{self._input: image}).values()
        return scores


def load_saved_model(path: Path) -> SavedModel:
    """Load the signature ``serving_default``.

    Raises:
        UsageError: Damaged, without that signature, or not a classifier.
        UnsafeModelError: Its graph reaches outside itself.
    """
    tf = load_tensorflow()
    _screen(path)
    with captured():
        try:
            loaded = tf.saved_model.load(str(path))
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as cause:
            raise UsageError(f"{path}: TensorFlow cannot load it ({str(cause).splitlines()[0][:200]})") from cause
    if _SIGNATURE not in loaded.signatures:
        raise UsageError(f"{path}: it has no signature {_SIGNATURE}; export it with keras: model.export(PATH)")
    return SavedModel(loaded, loaded.signatures[_SIGNATURE], path)


def tree_digest(path: Path) -> str:
    """One digest of all files of a folder, by name and content."""
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(str(file.relative_to(path)).encode("utf-8") + b"\0")
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _screen(path: Path) -> None:
    with captured():
        from tensorflow.core.protobuf import saved_model_pb2

    document = saved_model_pb2.SavedModel()
    try:
        document.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as cause:
        raise UsageError(f"{path}: saved_model.pb is damaged; export the model again") from cause
    for graph in document.meta_graphs:
        nodes = [node.op for node in graph.graph_def.node]
        inner = [node.op for function in graph.graph_def.library.function for node in function.node_def]
        # Saving and restoring its own variables is part of every SavedModel, in functions that are not called here.
        for op in {*nodes, *inner}:
            if op.startswith(_OUTSIDE) and not op.startswith(("SaveV2", "MergeV2Checkpoints")):
                raise UnsafeModelError(str(path), f"the operator {op}")
