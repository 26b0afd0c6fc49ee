"""Hold one control of one device by hand for a while, as a person, and print what the device does.

    python hold.py SITE.yaml DEVICE CONTROL VALUE SECONDS

A lease dies with the connection that asked for it: when this script ends, however it ends, the guardian takes it back.
"""

from __future__ import annotations

import asyncio
import getpass
import sys
from pathlib import Path

from controllers.guardian.client import GuardianClient
from controllers.guardian.settings import load_site
from core import PeerwattError

SHOWN = ("w", "limit_w", "limit_left_s", "power_w", "soc")
TTL_S = 10.0


async def hold(site: Path, device: str, control: str, value: float, seconds: int) -> None:
    """Ask for the lease, renew it every second, show the readings that matter."""
    me = getpass.getuser()
    async with GuardianClient(load_site(site).socket, "hold.py") as guardian:
        for second in range(seconds):
            answer = await guardian.lease(device, control, value, level="person", owner=me, ttl_s=TTL_S)
            if not answer.granted:
                sys.exit(f"refused: {answer.message} {dict(answer.holder or {})}")
            await asyncio.sleep(1.0)
            readings = await guardian.measure(device)
            found = (f"{name} {readings[name].value} ({readings[name].quality})" for name in SHOWN if name in readings)
            print(f"{second + 1:3} s  {', '.join(found)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    try:
        asyncio.run(hold(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5])))
    except PeerwattError as error:
        sys.exit(f"error: {error}")
