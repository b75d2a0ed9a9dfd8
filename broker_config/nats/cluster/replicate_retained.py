#!/usr/bin/env python3
"""Lets each NATS node show the newest retained messages after the death of another node.

Each node follows the retained messages by a JetStream consumer. NATS 2.15 makes it with one replica, on a
random node. When that one dies, the other node gets no new retained message until it restarts. This script
gives each of these consumers three replicas.

Keep it running beside NATS, on one machine or on each: a restarted node has a new consumer. It needs nats-py
(pip install nats-py), the user `replicator` of cluster.conf, and the password in NATS_PASSWORD:

    replicate_retained.py nats://one:4222 nats://two:4222 nats://three:4222
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error

STREAM = "$MQTT_rmsgs"
REPLICAS = 3
TIMEOUT_S = 10.0
"""More than NATS takes to list the consumers while a node is gone."""

LOOK_S = 30.0
"""More than a look takes; without it, nats-py tries nodes that are all gone for minutes."""

log = logging.getLogger("replicate_retained")


class RefusedError(Exception):
    """NATS has answered with an error."""


async def ask(client: Client, action: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request to JetStream, and return its answer."""
    answer = await client.request(f"$JS.API.CONSUMER.{action}", json.dumps(body).encode(), timeout=TIMEOUT_S)
    answered: dict[str, Any] = json.loads(answer.data)
    if "error" in answered:
        raise RefusedError(f"{action}: {answered['error'].get('description', answered['error'])}")
    return answered


async def consumers(client: Client) -> list[dict[str, Any]]:
    """Return the consumers of the retained messages, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = await ask(client, f"LIST.{STREAM}", {"offset": len(found)})
        found += page["consumers"]
        if not page["consumers"] or len(found) >= page["total"]:
            return found


async def replicate(client: Client) -> None:
    """Give each consumer its replicas."""
    for consumer in await consumers(client):
        config = consumer["config"]
        if config.get("num_replicas") == REPLICAS:
            continue
        name = consumer["name"]
        body = {"stream_name": STREAM, "config": config | {"num_replicas": REPLICAS}, "action": "update"}
        try:
            await ask(client, f"CREATE.{STREAM}.{name}.{config['filter_subject']}", body)
        except RefusedError as error:  # its node is gone, or it has ended since
            log.warning("%s stays as it is: %s", name, error)
        else:
            log.info("%s has %d replicas now", name, REPLICAS)


async def look(servers: list[str], user: str, password: str) -> None:
    """Connect to a node that is there, and give each consumer its replicas."""
    client = await nats.connect(
        servers, user=user, password=password, allow_reconnect=False, connect_timeout=5
    )
    try:
        await replicate(client)
    finally:
        await client.close()


async def run(servers: list[str], user: str, password: str, every_s: float) -> int:
    """Replicate once, or again and again; return the exit code."""
    while True:
        try:
            async with asyncio.timeout(LOOK_S):
                await look(servers, user, password)
        except (OSError, Error, RefusedError, TimeoutError) as error:
            words = str(error) or "the nodes do not answer in time"
            log.error("%s", words)  # noqa: TRY400 - one line is enough
            if not every_s:
                return 1
        if not every_s:
            return 0
        await asyncio.sleep(every_s)


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("servers", nargs="+", metavar="URL", help="nats://host:port of each node, or tls://")
    parser.add_argument("--user", default="replicator")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two looks; 0: look once")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # each node that is gone
    try:
        return asyncio.run(
            run(options.servers, options.user, os.environ.get("NATS_PASSWORD", ""), options.every)
        )
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
