"""phxsocket under remote control.

Reads one command per line from standard input, as JSON, and writes what happens to standard output, one JSON object per
line. Commands: {"join": topic, "params": ...}, {"push": event, "topic": ..., "payload": ...} (replied to),
{"send": event, "topic": ..., "payload": ...} (not waited for), {"leave": topic}, {"close": true}.
"""

import json
import sys
import threading

import phxsocket

printing = threading.Lock()


def tell(**what):
    with printing:
        print(json.dumps(what), flush=True)


def main(url, params):
    socket = phxsocket.Client(url, params)
    socket.heartbeat_interval = 0.2
    try:
        socket.connect()
    except Exception as error:
        tell(refused=str(error))
        return
    socket.on_close = lambda _: tell(closed=True)
    tell(connected=True)

    channels = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "join" in command:
            topic = command["join"]
            channel = socket.channel(topic, command.get("params", {}))
            channel.on_message = lambda _, event, payload: tell(event=event, payload=payload)
            channel.on_close = lambda topic=topic: tell(left=topic)
            channels[topic] = channel
            try:
                tell(joined=channel.join())
            except phxsocket.channel.ChannelConnectError as refused:
                tell(refused=refused.args[0])
        elif "push" in command:
            reply = channels[command["topic"]].push(command["push"], command["payload"], reply=True)
            tell(reply=reply.wait_for_response())
        elif "send" in command:
            channels[command["topic"]].push(command["send"], command["payload"])
        elif "leave" in command:
            channels[command["leave"]].leave()
        elif "close" in command:
            socket.close()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
