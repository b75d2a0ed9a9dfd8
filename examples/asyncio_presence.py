"""Presence in an asyncio program: be online, and print everybody's changes meanwhile.

Run it beside a broker and a bridge:

    python examples/asyncio_presence.py mqtt://alice@127.0.0.1:1883 [seconds]

Ends with Ctrl-C, or after the given number of seconds.
"""

import asyncio
import sys

from mqtt_presence import BrokerUrl, PresenceError, aio


async def follow(users: aio.StatusWatcher) -> None:
    async for change in users:
        print(f"{change.user_id}: {change.new.state if change.new else 'forgotten'}", flush=True)


async def main(url: BrokerUrl, seconds: float | None) -> None:
    async with aio.StatusWatcher(url) as users, aio.PresenceClient(url, on_bridge=print) as me:
        print(f"{me.user} is online, connection {me.connection_id}", flush=True)
        try:
            await asyncio.wait_for(follow(users), seconds)
        except TimeoutError:
            print(f"{sum(user.online for user in users.values())} online", flush=True)


try:
    arguments = [*sys.argv[1:], "mqtt://alice@127.0.0.1:1883"]
    asyncio.run(main(BrokerUrl.parse(arguments[0]), float(sys.argv[2]) if len(sys.argv) > 2 else None))
except KeyboardInterrupt:
    pass
except PresenceError as error:
    sys.exit(str(error))
