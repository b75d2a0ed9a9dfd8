/** The panel of one's own client, on demand: server time, offset and idle monitor. */

import {clockTime, dayName, exactly, secondsAgo, small} from "./times.js";
import {html, useState} from "./view.js";

/** @typedef {import("./page.js").Page} Page */

/** @param {{page: Page, client: import("../presence/presence-client.js").PresenceClient, isShown: boolean}} props */
export function OwnPanel({page, client, isShown}) {
  const [threshold, setThreshold] = useState("60");
  const [interval, setInterval] = useState("1");
  const [idleOnBlur, setIdleOnBlur] = useState(false);
  const [error, setError] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const {connected, isMonitoring, isSynced, offset, roundTrip, lastActivity} = client.getSnapshot();
  const now = client.serverTime();
  const toggle = (/** @type {Event} */ event) => {
    event.preventDefault();
    setError("");
    try {
      if (client.monitor.isMonitoring) client.monitor.stop();
      else client.monitor.start({threshold: Number(threshold) * 1000, interval: Number(interval) * 1000, idleOnBlur});
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    page.paint();
  };
  const resync = async () => {
    setIsBusy(true);
    const answered = await client.resync();
    setIsBusy(false);
    setError(answered ? "" : "The bridge did not answer.");
  };
  const number = (/** @type {string} */ id, /** @type {string} */ value, /** @type {(value: string) => void} */ set) => html`
    <input id=${id} type="number" min="1" step="any" required inputmode="decimal" value=${value} disabled=${isMonitoring}
      onInput=${(/** @type {any} */ event) => set(event.currentTarget.value)} />`;
  return html`
    <section class="card you" id="you" aria-labelledby="you-title" hidden=${!isShown}>
      <div>
        <h2 class="small" id="you-title">Server time</h2>
        <p class="server-time">
          <time id="server-clock">${clockTime(now)}</time>
          <span class="hint" id="server-date">${isSynced ? dayName(now) : "your own clock, not the server’s"}</span>
        </p>
        <button type="button" id="resync" disabled=${!connected} aria-busy=${isBusy ? "true" : undefined} onClick=${resync}>Resync the clock</button>
      </div>
      <dl class="facts">
        <div><dt>Your last activity</dt><dd id="last-activity" title=${lastActivity === null ? undefined : exactly(lastActivity)}>
          ${lastActivity === null ? "–" : secondsAgo(now.getTime() - lastActivity.getTime())}</dd></div>
        <div><dt>Offset of your clock</dt><dd id="offset">${offset === null ? "–" : `${offset > 0 ? "+" : ""}${small(offset)}`}</dd></div>
        <div><dt>Round trip</dt><dd id="round-trip">${roundTrip === null ? "–" : small(roundTrip)}</dd></div>
      </dl>
      <form class="monitor" id="monitor" aria-labelledby="monitor-title" onSubmit=${toggle}>
        <h2 class="small" id="monitor-title">Idle monitor</h2>
        <div class="pair">
          <label for="threshold">Idle after <span class="hint">s</span></label>${number("threshold", threshold, setThreshold)}
          <label for="interval">Check every <span class="hint">s</span></label>${number("interval", interval, setInterval)}
        </div>
        <label class="check"><input id="idle-on-blur" type="checkbox" checked=${idleOnBlur} disabled=${isMonitoring}
          onChange=${(/** @type {any} */ event) => setIdleOnBlur(event.currentTarget.checked)} /> Idle in the background</label>
        <p class="error" id="monitor-error" role="alert">${error}</p>
        <div class="buttons">
          <button type="submit" id="start-stop">${isMonitoring ? "Stop" : "Start"}</button>
          <button type="button" id="ping" disabled=${!isMonitoring} onClick=${() => client.monitor.ping()}>Ping</button>
        </div>
      </form>
    </section>`;
}
