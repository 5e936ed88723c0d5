"""What a run says: status, events, Readings and results, numbered and handed to every outlet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit_device import health
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.telemetry import Event, Reading, Result, Status
from edgekit_device.contract.topics import ANSWER, EVENT, REPORTED, RESULT, TELEMETRY
from edgekit_device.publish.outlet import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgekit_device.contract.asking import Request
    from edgekit_device.contract.desired import Desired, Watch
    from edgekit_device.housekeeping import Housekeeping
    from edgekit_device.publish.outlet import Outlet, OutletState


_LINKS_S = 1.0


@dataclass(frozen=True)
class Identity:
    """Who speaks: the parts of every document that stay the same for one run."""

    site: str
    device: str
    boot: str
    bundle_id: str
    source: str


class Reporter:
    """The run's voice.

    Attributes:
        spoken: Readings and events numbered so far.
    """

    def __init__(
        self, who: Identity, outlets: Sequence[Outlet], house: Housekeeping, say: Callable[[str], None]
    ) -> None:
        self.who, self.outlets, self.house, self.say = who, outlets, house, say
        self.spoken = 0
        self._links: dict[int, str | None] = {}
        self._links_due_s = 0.0
        self._reported = b""

    def status(self, state: str, delegate: str | None, reason: str | None) -> bytes:
        """A status document."""
        return Status(state, self.who.boot, self.who.bundle_id, delegate, reason).to_bytes()

    def start(self, status: bytes) -> None:
        """Open every outlet."""
        self.house.start(status)
        for outlet in self.outlets:
            outlet.start(status)

    def announce(self, status: bytes) -> None:
        """Replace the retained status."""
        for outlet in self.outlets:
            outlet.announce(status)
        self.house.note_status(status)

    def close(self, status: bytes) -> None:
        """Say goodbye everywhere."""
        for outlet in self.outlets:
            outlet.close(status)
        self.house.close(status)

    def reported(self, document: bytes) -> None:
        """Say what runs and what of the host's wishes is followed, when that changed."""
        if document != self._reported:
            self._reported = document
            for outlet in self.outlets:
                outlet.send(REPORTED, document)

    def links(self) -> list[OutletState]:
        """How each way out stands."""
        return [outlet.state() for outlet in self.outlets]

    def tell_links(self, now_s: float) -> None:
        """Say on the terminal when a way out closes or opens; looked at once a second."""
        if now_s < self._links_due_s:
            return
        self._links_due_s = now_s + _LINKS_S
        for number, outlet in enumerate(self.outlets):
            state = outlet.state()
            if state.reason != self._links.get(number):
                self._links[number] = state.reason
                waiting = f" ({state.waiting} messages wait)" if state.waiting else ""
                self.say(f"cannot publish: {state.reason}{waiting}" if state.reason else "publishing")

    def listen(self) -> list[Desired | Watch | Request]:
        """What the host asks for; what an outlet wants said becomes an event on the way."""
        wishes: list[Desired | Watch | Request] = []
        for heard in [heard for outlet in self.outlets for heard in outlet.heard()]:
            if isinstance(heard, Notice):
                self.event(heard.kind, heard.reason, heard.detail)
            else:
                wishes.append(heard)
        return wishes

    def _number(self) -> int:
        self.spoken += 1
        return self.spoken - 1

    def event(self, kind: str, reason: str | None, detail: Mapping[str, Any]) -> None:
        """Send one event and say it on the terminal."""
        self.say(f"{kind}: {reason}" if reason else kind)
        document = Event(self.who.boot, self._number(), utc_text(), kind, reason, detail).to_bytes()
        for outlet in self.outlets:
            outlet.send(EVENT, document)

    def answer(self, document: bytes) -> None:
        """Send the answer to a request, best effort."""
        for outlet in self.outlets:
            outlet.send(ANSWER, document)

    def result(self, message: Mapping[str, Any]) -> None:
        """Send one decision."""
        made_by = {"bundle": message["bundle"]} if message.get("bundle") else {}
        document = Result(message["label"], message["score"], message["decision"], made_by).to_bytes()
        for outlet in self.outlets:
            outlet.send(RESULT, document)

    def reading(
        self,
        window: Mapping[str, Any],
        ready: Mapping[str, Any],
        pids: Sequence[int],
        *,
        now: Mapping[str, Any],
        ladder_reason: str | None,
    ) -> None:
        """Send one Reading.

        Args:
            window: What the worker counted, or zeros.
            ready: What the worker said when it was ready; empty without one.
            pids: The processes whose memory counts.
            now: Label and score of the last decision; left out where nothing was inferred.
            ladder_reason: Why a better rung does not serve.
        """
        who = self.who
        reading = Reading(
            site=who.site,
            device=who.device,
            boot=who.boot,
            seq=self._number(),
            at=utc_text(),
            clock=health.clock(),
            source=who.source,
            bundle=who.bundle_id,
            delegate=ready.get("delegate"),
            delegate_reason=ladder_reason,
            threads=ready.get("threads"),
            **window,
            **self.house.health(list(pids), ready.get("delegate"), dict(window)),
            **(now if window["inference_fps"] else {}),
        )
        for outlet in self.outlets:
            outlet.send(TELEMETRY, reading.to_bytes())
        self.house.note_reading(reading.to_json(), self.outlets)
