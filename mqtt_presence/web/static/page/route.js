/** The address of a view: its name and its user after `#`, its choices after `?`. Pure. */

/** @typedef {"people" | "person" | "connections" | "history"} ViewName */
/** @typedef {Record<string, string>} Query */
/** @typedef {{view: ViewName, user: string, query: Query}} Route */

const VIEWS = /** @type {const} */ (["people", "person", "connections", "history"]);

/**
 * Read the address of the page.
 *
 * @param {string} search
 * @param {string} hash
 * @returns {Route}
 */
export function parseRoute(search, hash) {
  const [name = "", ...rest] = hash.replace(/^#/, "").split("/");
  const user = decode(rest.join("/"));
  const query = Object.fromEntries(new URLSearchParams(search));
  if (user !== "" && (name === "person" || name === "history")) return {view: "person", user, query};
  const view = VIEWS.find((each) => each === name && each !== "person") ?? "people";
  return {view, user: "", query};
}

/**
 * Write the address of a view, relative to the page.
 *
 * @param {{view: ViewName, user?: string, query?: Query}} route
 */
export function hrefOf({view, user = "", query = {}}) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `${search === "" ? "./" : `?${search}`}#${view}${user === "" ? "" : `/${encodeURIComponent(user)}`}`;
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
