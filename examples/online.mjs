/**
 * A Node program that is online itself and prints who else is, for ten seconds or the given number.
 *
 * Run it beside a broker and a bridge, where the npm package of this repository is installed (docs/browser.md):
 *
 *     node examples/online.mjs ws://127.0.0.1:9001 alice 10
 */

import {PresenceClient, PresenceError, StatusWatcher} from "mqtt-presence-client";

const [url = "ws://127.0.0.1:9001", user = "alice", seconds = "10"] = process.argv.slice(2);

try {
  const client = new PresenceClient(url, {user, userAgent: "online.mjs"});
  const users = new StatusWatcher(client); // over the same connection
  users.addEventListener("status", ({detail: {userId, after}}) => console.log(`${userId}: ${after?.state ?? "forgotten"}`));
  await client.connect();
  console.log(`${user} is online, connection ${client.connectionId}`);
  setTimeout(() => client.disconnect(), Number(seconds) * 1000);
} catch (error) {
  if (!(error instanceof PresenceError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
