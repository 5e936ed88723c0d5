"""Reading and writing the JSON documents of the contract.

Every document carries ``"schema": 1``, is UTF-8 with sorted keys, keeps fields it does not know, and refuses
a schema it does not know by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from edgekit_device.contract.errors import FieldError, SchemaError

SCHEMA = 1
MAX_DOCUMENT_BYTES = 1 << 20


def dump(document: Mapping[str, Any]) -> bytes:
    """Serialise one document: sorted keys, no spaces, no NaN, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def _no_constant(token: str) -> float:
    raise ValueError(f"{token} is not JSON")


# Made once: json.loads() makes one for each document that names parse_constant.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_LONE = re.compile("[\ud800-\udfff]")


def load(name: str, data: bytes) -> dict[str, Any]:
    """Parse one document and check its schema.

    Args:
        name: What the document is called in errors, e.g. ``"manifest"``.
        data: UTF-8 JSON, at most MAX_DOCUMENT_BYTES.

    Raises:
        FieldError: The bytes are too many, not UTF-8 JSON, nested too deep, or not an object.
        SchemaError: ``schema`` is not the one this version reads.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise FieldError(name, "", f"is {len(data)} bytes, over the limit of {MAX_DOCUMENT_BYTES}")
    try:
        document = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise FieldError(name, "", f"is not UTF-8 JSON ({type(cause).__name__})") from cause
    if not isinstance(document, dict):
        raise FieldError(name, "", "is not a JSON object")
    found = document.get("schema")
    if found != SCHEMA or isinstance(found, bool):
        raise SchemaError(name, found, SCHEMA)
    return document


class Fields:
    """Typed access to one parsed document; every failure names document and field."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name, self.values = name, values

    def _get(self, key: str, kinds: tuple[type, ...], what: str, *, null: bool) -> Any:
        if key not in self.values:
            if null:
                return None
            raise FieldError(self.name, key, "is missing")
        value = self.values[key]
        if value is None and null:
            return None
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise FieldError(self.name, key, f"must be {what}, found {type(value).__name__}")
        return value

    def text(self, key: str, *, limit: int = 1024) -> str:
        """A string of at most `limit` characters, without NUL and lone surrogates."""
        value: str = self._get(key, (str,), "a string", null=False)
        return self._checked(key, value, limit)

    def text_or_none(self, key: str, *, limit: int = 1024) -> str | None:
        """Like `text`; null and absent give None."""
        value = self._get(key, (str,), "a string or null", null=True)
        return None if value is None else self._checked(key, value, limit)

    def _checked(self, key: str, value: str, limit: int) -> str:
        if len(value) > limit:
            raise FieldError(self.name, key, f"is longer than {limit} characters")
        # PostgreSQL refuses NUL, UTF-8 refuses lone surrogates: neither may travel further.
        if "\0" in value or (not value.isascii() and _LONE.search(value)):
            raise FieldError(self.name, key, "holds NUL or a lone surrogate")
        return value

    def integer(self, key: str, *, low: int = 0, high: int = 2**63 - 1) -> int:
        """A whole number in [low, high]."""
        value: int = self._get(key, (int,), "a whole number", null=False)
        if not low <= value <= high:
            raise FieldError(self.name, key, f"must lie in [{low}, {high}]")
        return value

    def integer_or_none(self, key: str, *, low: int = 0, high: int = 2**63 - 1) -> int | None:
        """Like `integer`; null and absent give None."""
        return None if self.values.get(key) is None else self.integer(key, low=low, high=high)

    def number(self, key: str, *, low: float = -1e300, high: float = 1e300) -> float:
        """A finite number in [low, high], as float."""
        value = self._get(key, (int, float), "a number", null=False)
        if isinstance(value, int) and abs(value) > 1 << 1000:
            raise FieldError(self.name, key, f"must lie in [{low}, {high}]")
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high:
            raise FieldError(self.name, key, f"must lie in [{low}, {high}]")
        return number

    def number_or_none(self, key: str, *, low: float = -1e300, high: float = 1e300) -> float | None:
        """Like `number`; null and absent give None."""
        return None if self.values.get(key) is None else self.number(key, low=low, high=high)

    def mapping(self, key: str) -> dict[str, Any]:
        """A JSON object."""
        value: dict[str, Any] = self._get(key, (dict,), "an object", null=False)
        return value

    def listing(self, key: str, *, limit: int = 100_000) -> list[Any]:
        """A JSON array of at most `limit` entries."""
        value: list[Any] = self._get(key, (list,), "an array", null=False)
        if len(value) > limit:
            raise FieldError(self.name, key, f"has more than {limit} entries")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of the allowed strings."""
        value = self.text(key)
        if value not in allowed:
            raise FieldError(self.name, key, f"must be one of {', '.join(allowed)}, found {value!r}")
        return value

    def numbers(self, key: str, *, limit: int = 100_000) -> tuple[float, ...]:
        """An array of finite numbers."""
        items = self.listing(key, limit=limit)
        inner = Fields(f"{self.name}.{key}", {str(i): item for i, item in enumerate(items)})
        return tuple(inner.number(str(i)) for i in range(len(items)))

    def texts(self, key: str, *, limit: int = 10_000) -> tuple[str, ...]:
        """An array of strings."""
        items = self.listing(key, limit=limit)
        inner = Fields(f"{self.name}.{key}", {str(i): item for i, item in enumerate(items)})
        return tuple(inner.text(str(i)) for i in range(len(items)))
