"""Clients from PyPI, each in a conversation of its own: python_clients.py CLIENT URL.

Prints what it hears, one JSON object per line: the answer to the join, then messages.
"""

import asyncio
import json
import logging
import sys

TOPIC = "room:python"


def tell(**what):
    print(json.dumps(what), flush=True)


async def chunnel(url):
    from chunnel.socket import Socket

    async with Socket(url, {"user": "chunnel"}) as socket:
        channel = socket.channel(TOPIC, {"name": "chunnel"})
        tell(joined=await channel.join())
        pushed = await channel.push("new_msg", {"body": "from chunnel"})
        for _ in range(2):
            message = await channel.receive()
            tell(event=message.event, payload=message.payload)
        tell(reply=await pushed.response())
        await channel.leave()
        tell(left=True)


async def phx_events(url):
    from phx_events.client import PHXChannelsClient
    from phx_events.exceptions import TopicClosedError

    async with PHXChannelsClient(url) as client:
        # It logs in its tear-down, to nobody.
        client.logger.setLevel(logging.CRITICAL)

        async def heard(message, _):
            tell(event=str(message.event), payload=message.payload)

        client.register_event_handler(event="new_msg", handlers=[heard])
        joined = client.register_topic_subscription(TOPIC)

        async def tell_of_join():
            await joined.wait()
            tell(joined=client._topic_registration_status[TOPIC].result.status.name)

        asyncio.create_task(tell_of_join())
        try:
            await client.start_processing()
        except TopicClosedError as error:
            tell(closed=error.topic)


async def phoenix_channels_python_client(url):
    from phoenix_channels_python_client import PHXChannelsClient, PhoenixChannelsProtocolVersion

    # Of version 2.0.0 it drops all frames without a join_ref, broadcasts among them.
    version = PhoenixChannelsProtocolVersion.V1
    async with PHXChannelsClient(url, api_key="key", protocol_version=version) as client:
        heard = asyncio.Queue()

        async def take(message):
            await heard.put(message)

        await client.subscribe_to_topic(TOPIC, take)
        tell(joined=client.is_topic_joined(TOPIC))
        while True:
            message = await heard.get()
            tell(event=str(message.event), payload=message.payload)


if __name__ == "__main__":
    asyncio.run({f.__name__: f for f in (chunnel, phx_events, phoenix_channels_python_client)}[sys.argv[1]](sys.argv[2]))
