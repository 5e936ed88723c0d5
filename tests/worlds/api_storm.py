"""Many requests in little time: schemathesis makes the parts, here they are put together anew and sent fast.

Schemathesis itself spends most of its time on making one case (30 ms on the machine this was measured on; the dashboard
answers in 6). So each operation gets some hundred cases of it, positive and negative, and every further request takes
its path, query, headers and body from four of them. Answers are held against the description all the same.
"""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

_DROPPED = ("content-length", "connection", "x-schemathesis-testcaseid", "host", "cookie", "origin", "x-csrf-token")
# The door answers before any route, with or without a login; OpenAPI describes what stands behind it.
DOOR = frozenset({400, 401, 403, 404, 405, 413, 421, 422, 429})
WITHOUT_LOGIN = frozenset({401, 403, 404, 405, 413, 421, 429})


class Parts(NamedTuple):
    """One case of schemathesis, taken apart.

    Attributes:
        path: As it is sent, percent-encoded.
        query: Behind the ``?``; empty for none.
        headers: Beside those that every request carries.
        body: What is posted; None for nothing.
    """

    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass
class Operation:
    """One operation of the description.

    Attributes:
        method: In upper case.
        template: Its path, e.g. ``/api/v1/boards/{site}/{device}``.
        described: Validators by status code; None for an answer without a schema.
        cases: What schemathesis made.
    """

    method: str
    template: str
    described: Mapping[int, Any]
    cases: list[Parts] = field(default_factory=list)


@dataclass
class Storm:
    """What came of it so far.

    Attributes:
        codes: Answers by status code.
        wrong: The first that broke a promise, in words.
    """

    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Storm) -> Storm:
        return Storm(self.codes + other.codes, [*self.wrong, *other.wrong])

    @property
    def requests(self) -> int:
        """How many were answered."""
        return sum(self.codes.values())


def gather(document: Mapping[str, Any], cases: int, number: int) -> list[Operation]:
    """Let schemathesis make cases for every operation.

    Args:
        document: The OpenAPI description.
        cases: Of each operation, half of them against the description.
        number: The seed.
    """
    found = []
    schema = schemathesis.openapi.from_dict(dict(document))
    for result in schema.get_all_operations():
        operation = result.ok()
        made = Operation(operation.method.upper(), operation.path, _validators(document, operation))
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _draw(operation.as_strategy(generation_mode=mode), cases // 2, number, made)
        found.append(made)
    return found


def _draw(strategy: Any, count: int, number: int, into: Operation) -> None:
    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(strategy)
    def take(case: Any) -> None:
        words = case.as_transport_kwargs(base_url="http://127.0.0.1:1")
        words.pop("cookies", None)
        ready = requests.Request(**words).prepare()
        parts = urlsplit(ready.url or "")
        headers = {str(k): _latin(v) for k, v in ready.headers.items() if k.lower() not in _DROPPED}
        body = ready.body.encode() if isinstance(ready.body, str) else ready.body
        into.cases.append(Parts(parts.path or "/", parts.query, headers, body))

    try:
        take()
    except schemathesis.errors.SchemathesisError:
        # There is no way to break an operation that takes nothing.
        return
    except Exception as error:
        if type(error).__name__ not in ("Unsatisfiable", "FailedHealthCheck"):
            raise


def _latin(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _validators(document: Mapping[str, Any], operation: Any) -> dict[int, Any]:
    import jsonschema_rs

    found: dict[int, Any] = {}
    for code, answer in document["paths"][operation.path][operation.method.lower()]["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        whole = None if not schema else {**schema, "components": document["components"]}
        found[int(code)] = jsonschema_rs.validator_for(whole) if whole else None
    return found


def send(
    origin: str, operations: list[Operation], headers: Mapping[str, str], count: int, number: int, *, login: bool
) -> Storm:
    """Put cases together and send them, on one connection that is kept.

    Args:
        origin: Of the dashboard.
        operations: With their cases.
        headers: Of every request: cookie, Origin, CSRF token.
        count: How many requests.
        number: The seed.
        login: Whether those headers log in; without one every answer must be a refusal.
    """
    parts, dice, storm = urlsplit(origin), random.Random(number), Storm()
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    for operation, case in _shuffled(operations, dice, count):
        path = f"{case.path}?{case.query}" if case.query else case.path
        try:
            link.putrequest(operation.method, path, skip_host=False, skip_accept_encoding=True)
            for name, value in {**case.headers, **headers}.items():
                link.putheader(name, value.encode("latin-1", "replace"))
            if case.body is not None or operation.method != "GET":
                link.putheader("Content-Length", str(len(case.body or b"")))
            link.endheaders(case.body)
            answer = link.getresponse()
            body = answer.read()
        except (http.client.InvalidURL, ValueError):
            link.close()  # http.client will not send this one; the next.
            continue
        storm.codes[answer.status] += 1
        why = _wrong(operation, answer.status, answer.headers.get("content-type", ""), body, login=login)
        if why:
            storm.wrong.append(f"{operation.method} {path[:300]}: {why}")
            if len(storm.wrong) >= 10:
                break
        if answer.will_close:
            link.close()
    link.close()
    return storm


def _shuffled(operations: list[Operation], dice: random.Random, count: int) -> Iterator[tuple[Operation, Parts]]:
    able = [operation for operation in operations if operation.cases]
    for _ in range(count):
        operation = dice.choice(able)
        one, two, three, four = (dice.choice(operation.cases) for _ in range(4))
        # Body and its content type belong together as often as not.
        headers = four.headers if dice.random() < 0.5 else three.headers
        yield operation, Parts(one.path, two.query, headers, four.body)


def _wrong(operation: Operation, code: int, kind: str, body: bytes, *, login: bool) -> str | None:
    """What promise an answer breaks; None if it keeps them all."""
    if code >= 500:
        return f"{code}: {body[:300]!r}"
    if not login:
        return None if code in WITHOUT_LOGIN else f"{code} without a login"
    if code not in operation.described:
        return None if code in DOOR or 300 <= code < 400 else f"{code} is not described"
    validator = operation.described[code]
    if validator is None or not kind.startswith("application/json"):
        return None if validator is None or code in DOOR else f"{code} is {kind!r}, not JSON"
    try:
        value = json.loads(body)
    except ValueError:
        return f"{code} is no JSON"
    return None if code in DOOR or validator.is_valid(value) else f"{code} is not as described: {body[:300]!r}"
