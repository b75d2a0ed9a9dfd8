/** The topic names of the protocol, built and parsed here only. */

import {PresenceError} from "./errors.js";

// MQTT 3.1.1 §1.5.3: a receiver may close the connection on these.
const REFUSED = String.raw`\x00-\x1f\x7f-\x9f\ud800-\udfff\p{Noncharacter_Code_Point}`;
const NAME = new RegExp(`^[^/+#${REFUSED}]{1,128}$`, "u");
const PREFIX = new RegExp(`^(?:[^/+#$${REFUSED}][^/+#${REFUSED}]*/)*$`, "u");

/**
 * Return the name of a user or a client.
 *
 * @param {string} what the argument's name in the message, e.g. `user`
 * @param {unknown} text
 * @returns {string}
 * @throws {PresenceError} `config`: the text cannot be a level of a topic
 */
export function requireName(what, text) {
  if (typeof text !== "string" || !NAME.test(text)) {
    const value = JSON.stringify(text) ?? String(text);
    throw new PresenceError(
      "config",
      `${what}=${value} must be 1 to 128 characters without / + #, control characters and noncharacters`,
    );
  }
  return text;
}

/** The topics under one prefix. */
export class Topics {
  /** @type {string} */
  #status;

  /**
   * @param {string} prefix the beginning of every topic: empty, or levels such as `acme/`
   * @throws {PresenceError} `config`: the prefix has wildcards or empty levels, or begins with `$`
   */
  constructor(prefix = "") {
    const levels = prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix;
    if (!PREFIX.test(levels)) {
      throw new PresenceError(
        "config",
        `prefix=${JSON.stringify(prefix)} must be topic levels without wildcards, empty levels, control characters and noncharacters, not begin with $`,
      );
    }
    this.prefix = levels;
    this.#status = `${levels}status/`;
    this.statuses = `${levels}status/+`;
    this.bridgeState = `${levels}bridge/state`;
    this.bridgeAnnounce = `${levels}bridge/announce`;
  }

  /**
   * Return the topic of a client's message.
   *
   * @param {string} user
   * @param {string} clientId
   * @param {"login" | "activity" | "logout" | "will" | "time"} verb
   */
  input(user, clientId, verb) {
    return `${this.prefix}presence/${user}/${clientId}/${verb}`;
  }

  /**
   * Return the topic of a client's answers to time requests.
   *
   * @param {string} user
   * @param {string} clientId
   */
  reply(user, clientId) {
    return `${this.prefix}reply/${user}/${clientId}/time`;
  }

  /**
   * Return the user of a status topic, null for any other topic.
   *
   * @param {string} topic
   * @returns {string | null}
   */
  parseStatus(topic) {
    if (!topic.startsWith(this.#status)) return null;
    const user = topic.slice(this.#status.length);
    return NAME.test(user) ? user : null;
  }
}
