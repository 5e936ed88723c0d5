"""A reader of pickles that can build containers and tensors and can do nothing else.

``pickletools.genops`` (standard library) only tokenises; the few opcodes that a state dict needs are interpreted
here on a stack of plain values. No global is ever imported: a name is either one of the inert stand-ins in the
table of `interpret`'s caller or it is refused, before anything that follows it is looked at. The pickle module is
not used, so no `__reduce__`, `__setstate__` or extension registry can be reached.
"""

from __future__ import annotations

import pickletools  # nosec B403 - names opcodes; it runs none
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

from edgekit.errors import UnsafePickleError, WeightsFormatError

Maker = Callable[[tuple[Any, ...]], Any]
"""Builds the stand-in of a permitted global from its arguments; raises ValueError or TypeError if they do not fit."""

MAX_OPCODES = 5_000_000  # Lite4 has about 30,000; a file that needs more is not a state dict
_ARGUMENT = object()


class Call:
    """A permitted global, inert: its name and what stands in for calling it."""

    def __init__(self, name: str, make: Maker) -> None:
        self.name, self.make = name, make


class OrderedDictStandIn(dict[Any, Any]):
    """What ``collections.OrderedDict`` becomes. BUILD may follow it (torch's ``_metadata``) and is dropped."""


def ordered_dict(arguments: tuple[Any, ...]) -> OrderedDictStandIn:
    """Stand-in for ``collections.OrderedDict()``; its items come by SETITEMS."""
    if arguments:
        raise ValueError("OrderedDict with arguments")
    return OrderedDictStandIn()


class _Machine:
    """The pickle machine's stack and memo, restricted to what state dicts are made of."""

    def __init__(self, path: str, permitted: Mapping[str, Maker], persistent: Callable[[Any], Any]) -> None:
        self.path, self.permitted, self.persistent = path, permitted, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def refuse(self, what: str) -> NoReturn:
        raise UnsafePickleError(self.path, what)

    def pop(self) -> Any:
        # A pop must not reach below the last mark: that is how malformed pickles confuse readers.
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("stack underflow")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("no mark")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or not isinstance(self.stack[-1], kind):
            raise ValueError(f"no {kind.__name__} to fill")
        return self.stack[-1]

    def fill(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if len(pairs) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise TypeError("a key that is neither text nor number")
            target[key] = value

    def resolve(self, module: object, name: object) -> Call:
        if not isinstance(module, str) or not isinstance(name, str):
            self.refuse("a global whose name is not text")
        make = self.permitted.get(f"{module} {name}")
        if make is None:
            self.refuse(f"{module}.{name}")
        return Call(f"{module}.{name}", make)

    def reduce(self) -> None:
        arguments, call = self.pop(), self.pop()
        if not isinstance(call, Call):
            self.refuse(f"a call of {type(call).__name__}")
        if not isinstance(arguments, tuple):
            raise TypeError("arguments that are not a tuple")
        self.stack.append(call.make(arguments))

    def build(self) -> None:
        state = self.pop()
        if not self.stack or not isinstance(self.stack[-1], OrderedDictStandIn) or not isinstance(state, dict):
            self.refuse("BUILD on something that is not an OrderedDict")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument if _VALUES[name] is _ARGUMENT else _VALUES[name])
        elif name in _FRESH:
            stack.append(_FRESH[name]())
        elif name in _PUTS:
            self.memo[len(self.memo) if argument is None else argument] = self.top(object)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in _TUPLES:
            stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name in _CONTAINERS:
            _CONTAINERS[name](self)
        elif name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            stack.append(self.resolve(module, attribute))
        elif name in ("INST", "OBJ"):
            self.refuse(argument.replace(" ", ".") if argument else "opcode OBJ")
        elif name not in _NOTHING:
            self.refuse(f"opcode {name}" + (f" ({argument})" if isinstance(argument, int) else ""))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(machine.resolve(module, name))


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill([key, value])


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend(machine: _Machine) -> None:
    items = machine.pop_mark()
    machine.top(list).extend(items)


_VALUES: dict[str, Any] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _ARGUMENT),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _ARGUMENT),
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_FRESH: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_PUTS = ("BINPUT", "LONG_BINPUT", "MEMOIZE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = ("PROTO", "FRAME", "STOP")
_CONTAINERS: dict[str, Callable[[_Machine], None]] = {
    "MARK": lambda machine: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.pop_mark())),
    "SETITEMS": lambda machine: machine.fill(machine.pop_mark()),
    "SETITEM": _set_item,
    "APPEND": _append,
    "APPENDS": _extend,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": lambda machine: machine.stack.append(machine.persistent(machine.pop())),
}


def interpret(stream: BinaryIO, path: str, permitted: Mapping[str, Maker], persistent: Callable[[Any], Any]) -> Any:
    """Build the value of one pickle; the stream ends up behind its STOP.

    Args:
        stream: Seekable bytes in memory (``io.BytesIO``), so that a huge stated length cannot allocate.
        path: Named in errors.
        permitted: ``"module name"`` -> what stands in for calling that global.
        persistent: Turns a persistent id into a value; raises ValueError or TypeError if it does not fit.

    Returns:
        Nested dicts, lists, tuples, text, numbers and the values of `permitted` and `persistent`.

    Raises:
        UnsafePickleError: Another global or opcode appears. Nothing was executed.
        WeightsFormatError: The pickle is cut short or malformed, or has more than MAX_OPCODES opcodes.
    """
    machine = _Machine(path, permitted, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MAX_OPCODES:
                raise ValueError(f"more than {MAX_OPCODES} opcodes")
            machine.step(opcode.name, argument)
        if machine.marks or len(machine.stack) != 1:
            raise ValueError("values left over")
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, AttributeError) as cause:
        raise WeightsFormatError(path, f"not a readable state dict ({cause or type(cause).__name__})") from cause
    return machine.stack[0]
