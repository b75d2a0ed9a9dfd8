/** The button that saves the connections of a period as CSV. */

import {html, useState} from "./view.js";

/** @param {{session: import("./session.js").Session, range: import("./ranges.js").Range, user: string}} props empty: all users */
export function CsvButton({session, range, user}) {
  const [error, setError] = useState("");
  const [isBusy, setIsBusy] = useState(false);
  const save = async () => {
    setIsBusy(true);
    setError("");
    try {
      const csv = await session.api.csv({user, from: new Date(range.from), to: new Date(range.to)});
      const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(csv), download: "connections.csv"});
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    setIsBusy(false);
  };
  return html`
    <button type="button" class="quiet csv" onClick=${save} aria-busy=${isBusy ? "true" : undefined}>CSV</button>
    <span class="error" role="alert">${error}</span>`;
}
