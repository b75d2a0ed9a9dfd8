/** What browsers have and older versions of Node lack: import this first. */

import {webcrypto} from "node:crypto";

import WebSocket from "ws";

globalThis.crypto ??= webcrypto;
globalThis.CustomEvent ??= class extends Event {
  constructor(type, {detail = null, ...init} = {}) {
    super(type, init);
    this.detail = detail;
  }
};
globalThis.WebSocket ??= WebSocket;
globalThis.navigator ??= {userAgent: "Node.js"};
