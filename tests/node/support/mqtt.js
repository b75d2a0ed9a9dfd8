/** MQTT.js without a network: tests read its calls, and act as the broker and the bridge. */

import {EventEmitter} from "node:events";

const encoder = new TextEncoder();

/** One client of MQTT.js: one network connection, as our library uses it. */
export class FakeClient extends EventEmitter {
  published = [];
  subscribed = [];
  unsubscribed = [];
  /** `disconnect`, `abort`; null: it goes on. */
  end_ = null;
  acknowledges = true;
  refuses = [];

  constructor(url, options) {
    super();
    this.url = url;
    this.options = options;
  }

  get will() {
    const {topic, payload} = this.options.will;
    return {topic, ...JSON.parse(payload)};
  }

  publish(topic, payload, {qos}, call) {
    this.published.push({topic, qos, ...JSON.parse(payload)});
    if (qos === 0 || this.acknowledges) queueMicrotask(() => call(null));
  }

  subscribe(filters, call) {
    this.subscribed.push(...Object.keys(filters));
    const granted = Object.entries(filters).map(([name, {qos}]) => (this.refuses.includes(name) ? 0x80 : qos));
    queueMicrotask(() => call(null, [], {granted}));
  }

  unsubscribe(filters) {
    this.unsubscribed.push(...filters);
  }

  end(force) {
    this.end_ ??= force ? "abort" : "disconnect";
    queueMicrotask(() => this.emit("close"));
  }

  // What the broker and the network do.

  accept() {
    this.emit("connect");
  }

  refuse(code) {
    this.emit("error", Object.assign(new Error("Connection refused"), {code}));
    this.emit("close");
  }

  lose() {
    this.emit("close");
  }

  deliver(topic, body, retain = false) {
    const payload = typeof body === "string" ? body : JSON.stringify(body);
    this.emit("message", topic, encoder.encode(payload), {retain});
  }

  /** What was published on topics that end so. */
  sent(verb) {
    return this.published.filter(({topic}) => topic.endsWith(`/${verb}`));
  }

  /** Answer the last question for the time, as a bridge whose clock shows this. */
  tell(serverTime) {
    const {topic, t0} = this.sent("time").at(-1);
    this.deliver(topic.replace("presence/", "reply/"), {t0, t1: serverTime, t2: serverTime});
  }
}

export class FakeMqtt {
  clients = [];

  connect(url, options) {
    this.clients.push(new FakeClient(url, options));
    return this.clients.at(-1);
  }

  get last() {
    return this.clients.at(-1);
  }
}
