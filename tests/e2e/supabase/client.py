"""PyPI's realtime under remote control.

Reads one command per line from standard input, as JSON, and writes what happens to standard output, one JSON object per line.
Commands: {"join": topic, "config": ..., "changes": true}, {"send": event, "topic": ..., "payload": ...},
{"track": meta, "topic": ...}, {"state": topic}, {"auth": token}, {"leave": topic}.
"""

import asyncio
import json
import logging
import sys

from realtime import AsyncRealtimeClient


def tell(**what):
    print(json.dumps(what), flush=True)


class Errors(logging.Handler):
    """What the client could not read of what it was sent."""

    def emit(self, record):
        if record.levelno >= logging.ERROR:
            tell(logged=record.getMessage())


async def main(url, key):
    logging.getLogger().addHandler(Errors())
    client = AsyncRealtimeClient(url, key)
    await client.connect()
    channels = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if "join" in command:
            topic = command["join"]
            channel = client.channel(topic, {"config": command.get("config", {})})
            channel.on_broadcast("*", lambda message: None)
            channel.on_broadcast("msg", lambda message: tell(heard=message["payload"]))
            channel.on_presence_sync(lambda: tell(synced=True))
            if command.get("changes"):
                channel.on_postgres_changes("*", callback=lambda change: tell(changed=change), schema="public")
            await channel.subscribe(lambda state, error: tell(state=state.value, error=error and str(error)))
            channels[topic] = channel
        elif "send" in command:
            await channels[command["topic"]].send_broadcast(command["send"], command["payload"])
        elif "track" in command:
            await channels[command["topic"]].track(command["track"])
        elif "state" in command:
            shown = channels[command["state"]].presence_state()
            tell(present={key: [{k: v for k, v in meta.items() if k != "presence_ref"} for meta in metas] for key, metas in shown.items()})
        elif "auth" in command:
            await client.set_auth(command["auth"])
            tell(authorized=True)
        elif "leave" in command:
            await channels[command["leave"]].unsubscribe()
            tell(left=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
