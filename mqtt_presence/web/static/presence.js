/**
 * The presence client for browsers: `PresenceClient` logs a user in, `StatusWatcher` shows the status of all users. The
 * interface is that of the Python client, in camelCase and milliseconds; docs/browser.md has examples.
 *
 *     const client = new PresenceClient("/mqtt", {user: "alice", password: "secret"});
 *     const users = new StatusWatcher(client);
 *     users.subscribe(() => console.log(users.getSnapshot().users));
 *     await client.connect();
 *     client.monitor.start();
 *
 * **Both** are an `EventTarget` with immutable snapshots: `getSnapshot()` is frozen and the same object until
 * something changes; `subscribe(fn)` calls `fn()` after changes and returns a function that ends it; `for await (const
 * snapshot of client)` begins with the present snapshot, skips some for a slow loop, and ends after `disconnect`.
 *
 * **`new PresenceClient(url, options)`**: `user`, `password`, `clientId`, `prefix`, `userAgent`, `idleThreshold`,
 * `timeout`, `meta`, `announce`, `keepAlive`, `reconnectMin`, `reconnectMax`, `mqtt`. The URL may be relative to the page.
 * - `connect({timeout, wait})`, `disconnect({timeout})` (also `logout`), `heartbeat()`
 * - `user`, `clientId`, `connected`, `connectionId`, `bridgeConnected`, `error`
 * - `monitor`: `start({threshold, interval, idleOnBlur})`, `stop()`, `ping()`, `isIdle`, `isMonitoring`, `lastActivity`.
 *   `start` may be called at any time: the report is sent as soon as the server time is known.
 * - `clock`: `serverTime()`, `offset`, `roundTrip`, `isSynced`, `resync()`; the client has these as well.
 *   `resync()` resolves to true after the answers, to false without one.
 * - events: `change` (any of these), `connect`, `disconnect`, `bridge`, `monitor`, `clock`, `error`
 * - snapshot: `{user, clientId, connected, connectionId, bridgeConnected, error, isMonitoring, isIdle,
 *   lastActivity, isSynced, offset, roundTrip}`, flat
 *
 * **`new StatusWatcher(client)`** shares the client's connection and only needs `close()`; or
 * **`new StatusWatcher(url, options)`** has its own connection: `connect({timeout, wait})`, `close()`.
 * - `get(userId)`, `size`, `connected`, `bridge` (`"online"`, `"offline"`, `"unknown"`), `bridgeConnected`, `stale`, `error`
 * - events: `change` (any), `status` (`detail`: `{userId, before, after}`, either may be null)
 * - snapshot: `{users, connected, bridge, stale, error}`; `users` is a frozen array, sorted by `userId`, of
 *   `{userId, state, online, idle, since, lastLogin, lastActivity, lastSeen, connections, version}`; times are Dates or null
 *
 * Errors are `PresenceError`s. Their `code`: `bad-password`, `refused` (by the broker, for another reason),
 * `unreachable`, `timeout`, `not-allowed` (the broker's access rules), `lost` (the connection), `no-mqtt` (MQTT.js
 * is missing), `config` (an argument is wrong), `usage` (a call at the wrong time: started twice, stopped while stopped).
 */

export {PresenceClient} from "./presence/presence-client.js";
export {StatusWatcher} from "./presence/status-watcher.js";
export {PresenceError} from "./presence/errors.js";
