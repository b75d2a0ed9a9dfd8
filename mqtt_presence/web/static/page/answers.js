/** The answers of the API, read: times become epoch milliseconds, absent fields null. Pure. */

/**
 * The record of a connection. Times are epoch milliseconds, null if unknown or not reached yet.
 *
 * @typedef {object} ConnectionRecord
 * @property {string} userId
 * @property {string} clientId
 * @property {string} connectionId
 * @property {number | null} loginTime
 * @property {number | null} logoutTime
 * @property {string | null} reason the reason of its end
 * @property {string | null} cause the end of the network connection as the broker reported it
 * @property {boolean | null} idle
 * @property {number | null} lastActivity
 * @property {number | null} lastSeen
 * @property {string | null} ipAddr
 * @property {string | null} userAgent
 * @property {boolean} unconfirmed whether it may have ended unnoticed
 */

/**
 * A change of a record, past or due; `rule` is null if unknown.
 *
 * @typedef {{change: string, at: number | null, rule: string | null, trigger: string}} ExplainedStep
 */

/**
 * A record with the changes that made it, and those that are due.
 *
 * @typedef {object} ExplainedRecord
 * @property {string} clientId
 * @property {string} connectionId
 * @property {boolean} open
 * @property {boolean} counts whether it counts for the user's status
 * @property {boolean | null} idle
 * @property {string | null} reason
 * @property {string | null} cause
 * @property {number | null} lastSeen
 * @property {ExplainedStep[]} past
 * @property {ExplainedStep[]} due
 */

/** @typedef {{records: ExplainedRecord[]}} Explanation */

/**
 * The figures of a period.
 *
 * @typedef {object} Figures
 * @property {{at: number, online: number}[]} points users online, at moments of the same distance
 * @property {number} users the number of users with a connection in it
 * @property {number} connections
 * @property {number} drops connections that ended without a logout
 */

/**
 * @param {Record<string, any>} fields
 * @returns {ConnectionRecord}
 */
export const record = (fields) => ({
  userId: fields.userId,
  clientId: fields.clientId,
  connectionId: fields.connectionId,
  loginTime: millis(fields.loginTime),
  logoutTime: millis(fields.logoutTime),
  reason: fields.reason ?? null,
  cause: fields.cause ?? null,
  idle: fields.idle ?? null,
  lastActivity: millis(fields.lastActivity),
  lastSeen: millis(fields.lastSeen),
  unconfirmed: fields.unconfirmed === true,
  ipAddr: fields.ipAddr ?? null,
  userAgent: fields.userAgent ?? null,
});

/**
 * @param {Record<string, any>} fields
 * @returns {ExplainedRecord}
 */
export const explained = (fields) => ({
  clientId: fields.clientId,
  connectionId: fields.connectionId,
  open: fields.open === true,
  counts: fields.counts === true,
  idle: fields.idle ?? null,
  reason: fields.reason ?? null,
  cause: fields.cause ?? null,
  lastSeen: millis(fields.lastSeen),
  past: fields.past.map(step),
  due: fields.due.map(step),
});

/**
 * @param {Record<string, any>} fields
 * @returns {ExplainedStep}
 */
const step = ({change, at, rule, trigger}) => ({change, at: millis(at), rule: rule ?? null, trigger});

/** @param {string | null | undefined} text */
const millis = (text) => (text == null ? null : Date.parse(text));

/**
 * @param {Record<string, any>} fields
 * @returns {Figures}
 */
export const figuresOf = ({points, users, connections, drops}) => ({
  points: points.map((/** @type {{time: string, online: number}} */ {time, online}) => ({at: Date.parse(time), online})),
  users,
  connections,
  drops,
});
