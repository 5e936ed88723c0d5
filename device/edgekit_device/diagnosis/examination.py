"""Every check of `edgekit-device doctor`, in the order of a board's layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit_device.diagnosis import coral, hardware, installation, software
from edgekit_device.diagnosis.broker import broker
from edgekit_device.diagnosis.finding import OK, UNKNOWN, Finding
from edgekit_device.status_file import look_up


def examine(root: Path = Path("/"), broker_url: str | None = None) -> list[Finding]:
    """Look at everything; nothing is changed, no camera and no accelerator is opened.

    Args:
        root: Folder that stands for the board's root.
        broker_url: A broker in place of the one that the settings name.
    """
    findings: list[Finding] = []

    def look(check: str, how: Callable[[], Finding | None]) -> Finding | None:
        try:
            found = how()
        except Exception as error:
            # A doctor that dies of one odd file tells nothing about all the others.
            found = Finding(check, UNKNOWN, f"could not be looked at: {type(error).__name__}: {error}")
        if found is not None:
            findings.append(found)
        return found

    look("python", software.python_version)
    look("userland", software.userland)
    look("numpy", software.numpy_abi)
    look("interpreter", software.interpreter)
    look("speed", software.speed)
    look("opencv", software.opencv)
    camera = look("picamera2", software.picamera2)
    look("edgetpu", lambda: coral.edge_tpu(root))
    look("camera", lambda: hardware.cameras(root, picamera2=camera is not None and camera.state == OK))
    look("groups", lambda: hardware.groups(root))
    look("throttling", lambda: hardware.throttling(root))
    look("clock", hardware.clock)
    look("disk", lambda: hardware.disk(root / "var/lib/edgekit"))
    found, settings = installation.settings(root)
    findings.append(found)
    look("broker", lambda: broker(broker_url or (settings.broker if settings else None), root=root))
    look("bundle", lambda: installation.bundle(root))
    look("slots", lambda: installation.slots(root))
    look("service", lambda: installation.service(look_up(root), root))
    return findings
