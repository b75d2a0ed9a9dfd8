/**
 * Payloads of a client's messages. No other module of the client contains names of JSON fields.
 *
 * Required fields are checked strictly. Unknown fields are ignored, so that a newer bridge may add some.
 */

import {PresenceError} from "./errors.js";

const MAX_PAYLOAD = 8 * 1024;
const MAX_META = 2 * 1024;
const MAX_DURATION_MS = 10 * 365 * 86_400_000;
const MAX_WITHIN_S = 3_600;
const LATEST_MS = 253_402_300_799_999; // the end of the year 9999
const ISO = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)$/i;
const STATES = new Set(["online", "idle", "offline"]);

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", {fatal: true});

/**
 * A user's latest login; address and user agent only where the bridge's setting `publish_private` is on.
 *
 * @typedef {Readonly<{date: Date, ipAddr: string | null, userAgent: string | null}>} LoginInfo
 */

/**
 * The payload of `status/<user>`. Null means unknown or not applicable.
 *
 * @typedef {object} UserStatus
 * @property {string} userId
 * @property {"online" | "idle" | "offline"} state
 * @property {boolean} online at least one connection is open, idle or not
 * @property {boolean | null} idle all connections are idle; null when offline
 * @property {Date | null} since the time of the last change of `state`
 * @property {LoginInfo | null} lastLogin
 * @property {Date | null} lastActivity the latest activity, present only while idle
 * @property {Date | null} lastSeen
 * @property {number} connections
 * @property {number} version grows with every publication of this user
 */

/** @typedef {{state: "online" | "offline", version: number, startedAt: number | null}} BridgeState `startedAt`: epoch ms */

/** @typedef {{t0: number, t1: number, t2: number}} TimeReply t1, t2: received and sent by the bridge, epoch milliseconds */

// Messages of the bridge.

/** @param {string} why @returns {never} */
function refuse(why) {
  throw new PresenceError("payload", why);
}

/**
 * @param {Uint8Array} payload
 * @returns {Record<string, unknown>}
 */
function decodeObject(payload) {
  if (payload.length > MAX_PAYLOAD) refuse(`${payload.length} bytes, at most ${MAX_PAYLOAD}`);
  let value;
  try {
    value = JSON.parse(decoder.decode(payload));
  } catch (error) {
    refuse(`no JSON: ${error}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse("no JSON object");
  return value;
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number} most
 */
function whole(name, value, most = Number.MAX_SAFE_INTEGER) {
  if (!Number.isSafeInteger(value) || Number(value) < 0 || Number(value) > most) {
    refuse(`${name} must be a whole number from 0 to ${most}`);
  }
  return Number(value);
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function moment(name, value) {
  const millis = typeof value === "string" && ISO.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(millis) ? refuse(`${name} must be an ISO 8601 time with an offset`) : new Date(millis);
}

/**
 * @param {string} name
 * @param {unknown} value
 */
const optionalMoment = (name, value) => (value == null ? null : moment(name, value));

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {string | null}
 */
function optionalString(name, value) {
  return value == null ? null : typeof value === "string" ? value : refuse(`${name} must be a string`);
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {boolean}
 */
function bool(name, value) {
  return typeof value === "boolean" ? value : refuse(`${name} must be true or false`);
}

/**
 * @param {unknown} value
 * @returns {LoginInfo | null}
 */
function loginInfo(value) {
  if (value == null) return null;
  if (typeof value !== "object") refuse("lastLogin must be an object");
  const {date, ipAddr, userAgent} = /** @type {Record<string, unknown>} */ (value);
  return Object.freeze({
    date: moment("lastLogin.date", date),
    ipAddr: optionalString("lastLogin.ipAddr", ipAddr),
    userAgent: optionalString("lastLogin.userAgent", userAgent),
  });
}

/**
 * Read `status/<user>`.
 *
 * @param {string} userId the user of the topic
 * @param {Uint8Array} payload not empty: the empty payload of a forgotten user is not a status
 * @returns {Readonly<UserStatus>}
 * @throws {PresenceError} `payload`: the message is not a status of the user
 */
export function decodeStatus(userId, payload) {
  const fields = decodeObject(payload);
  if (fields.userId !== userId) refuse(`userId ${JSON.stringify(fields.userId)} under the topic of ${userId}`);
  if (typeof fields.state !== "string" || !STATES.has(fields.state)) refuse("state must be online, idle or offline");
  return Object.freeze({
    userId,
    state: /** @type {UserStatus["state"]} */ (fields.state),
    online: bool("online", fields.online),
    idle: fields.idle == null ? null : bool("idle", fields.idle),
    since: optionalMoment("since", fields.since),
    lastLogin: loginInfo(fields.lastLogin),
    lastActivity: optionalMoment("lastActivity", fields.lastActivity),
    lastSeen: optionalMoment("lastSeen", fields.lastSeen),
    connections: whole("connections", fields.connections ?? 0),
    version: whole("version", fields.version),
  });
}

/**
 * Read `bridge/state`.
 *
 * @param {Uint8Array} payload
 * @returns {BridgeState}
 * @throws {PresenceError} `payload`: the message is not a state of the bridge
 */
export function decodeBridgeState(payload) {
  const {state, version, startedAt} = decodeObject(payload);
  if (state !== "online" && state !== "offline") refuse("state must be online or offline");
  return {
    state,
    version: whole("version", version ?? 0),
    startedAt: optionalMoment("startedAt", startedAt)?.getTime() ?? null,
  };
}

/**
 * Return the milliseconds within which clients answer an announcement: the payload of `bridge/announce`.
 *
 * At most an hour. 0, at once, for everything that is no such time: an announcement must not stay without an answer.
 *
 * @param {Uint8Array} payload
 * @returns {number}
 */
export function decodeAnnouncement(payload) {
  let within;
  try {
    within = decodeObject(payload).within;
  } catch (error) {
    if (!(error instanceof PresenceError)) throw error;
  }
  return typeof within === "number" && within > 0 ? Math.min(within, MAX_WITHIN_S) * 1_000 : 0;
}

/**
 * Read `reply/<user>/<client>/time`.
 *
 * @param {Uint8Array} payload
 * @returns {TimeReply}
 * @throws {PresenceError} `payload`: the message is not an answer, or was sent before its receipt
 */
export function decodeTimeReply(payload) {
  const fields = decodeObject(payload);
  const reply = {t0: whole("t0", fields.t0), t1: whole("t1", fields.t1, LATEST_MS), t2: whole("t2", fields.t2, LATEST_MS)};
  if (reply.t2 < reply.t1) refuse("t2 lies before t1");
  return reply;
}

// Messages of clients.

/**
 * Check a duration that a login declares.
 *
 * @param {string} name
 * @param {number | null} millis
 * @returns {number | null} the same
 * @throws {PresenceError} `config`: the value is not a duration
 */
export function checkDuration(name, millis) {
  if (millis !== null && !(millis > 0 && millis <= MAX_DURATION_MS)) {
    throw new PresenceError("config", `${name}=${millis} must be milliseconds above 0, or null`);
  }
  return millis;
}

/**
 * Copy the `meta` of a login.
 *
 * @param {object | null} meta
 * @returns {object | null}
 * @throws {PresenceError} `config`: the value is not JSON, or longer than 2 KiB
 */
export function checkMeta(meta) {
  if (meta === null) return null;
  let text;
  try {
    text = JSON.stringify(meta);
  } catch (error) {
    throw new PresenceError("config", `meta cannot be written as JSON: ${error}`, {cause: error});
  }
  const copy = text === undefined ? null : JSON.parse(text);
  if (typeof copy !== "object" || copy === null || Array.isArray(copy)) {
    throw new PresenceError("config", "meta must be an object");
  }
  const size = encoder.encode(text).length;
  if (size > MAX_META) throw new PresenceError("config", `meta has ${size} bytes of JSON, at most ${MAX_META}`);
  return copy;
}

/**
 * Write the payload of `login`.
 *
 * @param {object} login
 * @param {string} login.connectionId the same as in the will of the connection
 * @param {number | null} login.time the begin of the connection, server time in epoch milliseconds; null if unknown
 * @param {string | null} login.userAgent the user agent for operators
 * @param {number | null} login.idleThreshold milliseconds
 * @param {number | null} login.timeout milliseconds
 * @param {boolean} login.announce this client answers `bridge/announce`
 * @param {object | null} login.meta
 * @returns {string}
 * @throws {PresenceError} `config`: the payload is longer than 8 KiB
 */
export function encodeLogin({connectionId, time, userAgent, idleThreshold, timeout, announce, meta}) {
  const text = JSON.stringify({
    connectionId,
    time: time ?? undefined,
    userAgent: userAgent ?? undefined,
    idleThreshold: idleThreshold === null ? undefined : idleThreshold / 1000,
    timeout: timeout === null ? undefined : timeout / 1000,
    announce: announce || undefined,
    meta: meta ?? undefined,
  });
  const size = encoder.encode(text).length;
  if (size > MAX_PAYLOAD) {
    throw new PresenceError("config", `the login has ${size} bytes, at most ${MAX_PAYLOAD}: shorten userAgent`);
  }
  return text;
}

/**
 * Write the payload of `activity`.
 *
 * @param {string} connectionId the same as in the login
 * @param {boolean | null} idle the report of the client's monitor; null for a heartbeat
 * @param {number | null} lastActivity server time in epoch milliseconds; null for the time of receipt
 */
export const encodeActivity = (connectionId, idle, lastActivity) =>
  JSON.stringify({connectionId, idle: idle ?? undefined, lastActivity: lastActivity ?? undefined});

/**
 * Write the payload of `logout` and `will`.
 *
 * @param {string} connectionId
 */
export const encodeEnd = (connectionId) => JSON.stringify({connectionId});

/**
 * Write the payload of `time`.
 *
 * @param {number} t0 repeated in the answer
 */
export const encodeTimeRequest = (t0) => JSON.stringify({t0});
