"""How the board is: temperature, throttling, memory, load, disk, clock, power. What cannot be read is None.

`snapshot` reads once and at once; `HealthSampler` reads in the background, so that a run never waits.
"""

from edgekit_device.health.readings import clock, snapshot
from edgekit_device.health.sampler import HealthSampler

__all__ = ["HealthSampler", "clock", "snapshot"]
