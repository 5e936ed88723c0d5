"""How a board says on its own network that it is there: a file that Avahi reads, so no package more on the board."""

from __future__ import annotations

from functools import partial
from xml.sax.saxutils import escape

from edgekit.flashing.board import Board
from edgekit.flashing.steps import Step

SERVICE_TYPE = "_edgekit._tcp"
FOLDER = "/etc/avahi/services"
PATH = f"{FOLDER}/edgekit.service"


def service_text(site: str, device: str, port: int = 22) -> str:
    """The file for one board: what it is called, and where its SSH server listens. Anybody on the network may read it.

    Args:
        site: Id of its site.
        device: Its own id.
        port: Of SSH.
    """
    return f"""<?xml version="1.0" standalone='no'?>
<!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<!-- Written by edgekit flash: `edgekit devices` finds this board. -->
<service-group>
  <name replace-wildcards="yes">EdgeKit {escape(device)} on %h</name>
  <service>
    <type>{SERVICE_TYPE}</type>
    <port>{port}</port>
    <txt-record>schema=1</txt-record>
    <txt-record>site={escape(site)}</txt-record>
    <txt-record>id={escape(device)}</txt-record>
  </service>
</service-group>
"""


async def announcement_steps(board: Board, site: str, device: str, port: int = 22) -> list[Step]:
    """Write the file, where Avahi is installed, unless it is there; nothing has to be started for it."""
    if await board.entry(FOLDER) is None:
        return []
    text = service_text(site, device, port).encode()
    if await board.read(PATH) == text:
        return []
    return [Step("announce", f"write {PATH}: edgekit devices finds this board", partial(board.write, PATH, text))]
