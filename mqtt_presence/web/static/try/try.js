/** The page to try the HTTP API: it reads the OpenAPI document, and sends requests with the visitor's token. */

/**
 * @typedef {{name: string, in: string, required?: boolean, description?: string}} Parameter
 * @typedef {{description?: string, parameters?: Parameter[], requestBody?: object}} Operation
 * @typedef {{method: string, path: string, operation: Operation}} Resource
 */

const BASE = new URL("v1/", document.baseURI);
const BODY = '{"ids": ["alice"]}';
/** Characters of an answer that are shown; a stream has no end. */
const SHOWN = 50_000;

let running = new AbortController();

/** @param {string} id */
function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found;
}

/** @returns {Promise<Resource[]>} */
async function readResources() {
  const answer = await fetch(new URL("openapi.json", BASE));
  /** @type {{paths: Record<string, Record<string, Operation>>}} */
  const described = await answer.json();
  return Object.entries(described.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({method: method.toUpperCase(), path, operation})),
  );
}

/** @param {Resource} resource */
function show(resource) {
  element("about").textContent = resource.operation.description ?? "";
  const fields = (resource.operation.parameters ?? []).map((parameter) => {
    const input = document.createElement("input");
    input.name = `${parameter.in}:${parameter.name}`;
    input.required = parameter.required ?? false;
    input.title = parameter.description ?? "";
    return labelled(parameter.name, input);
  });
  if (resource.operation.requestBody !== undefined) {
    const body = document.createElement("textarea");
    body.name = "body";
    body.value = BODY;
    fields.push(labelled("body", body));
  }
  const button = document.createElement("button");
  button.textContent = `Send ${resource.method}`;
  element("request").replaceChildren(...fields, button);
}

/**
 * @param {string} text
 * @param {HTMLElement} field
 */
function labelled(text, field) {
  const label = document.createElement("label");
  label.append(text, field);
  return label;
}

/** @param {Resource} resource */
async function send(resource) {
  running.abort();
  running = new AbortController();
  const {signal} = running;
  const form = /** @type {HTMLFormElement} */ (element("request"));
  /** @type {Record<string, string>} */
  const headers = {};
  let {path} = resource;
  const query = new URLSearchParams();
  /** @type {string | undefined} */
  let body;
  for (const [field, value] of new FormData(form)) {
    const text = String(value);
    const [place, name = ""] = field.split(":");
    if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(text));
    else if (place === "body") body = text;
    else if (text !== "" && place === "query") query.append(name, text);
    else if (text !== "") headers[name] = text;
  }
  if (body !== undefined) headers["content-type"] = "application/json";
  const token = /** @type {HTMLInputElement} */ (element("token")).value.trim();
  if (token !== "") headers["authorization"] = `Bearer ${token}`;
  const url = new URL(path.slice(1), BASE);
  url.search = query.toString();
  element("answer").textContent = "";
  try {
    const answer = await fetch(url, {method: resource.method, headers, body, signal, credentials: "omit"});
    element("status").textContent = `${answer.status} ${answer.statusText}, ${answer.headers.get("content-type")}`;
    await print(answer);
  } catch (error) {
    if (!signal.aborted) element("status").textContent = `No answer: ${error}`;
  }
}

/** @param {Response} answer */
async function print(answer) {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const piece = await reader?.read();
    if (piece === undefined || piece.done) break;
    text = (text + piece.value).slice(-SHOWN);
    element("answer").textContent = text;
  }
  if (answer.headers.get("content-type")?.includes("json")) {
    element("answer").textContent = JSON.stringify(JSON.parse(text), null, 2);
  }
}

const resources = await readResources();
const choice = /** @type {HTMLSelectElement} */ (element("resource"));
choice.replaceChildren(...resources.map(({method, path}, index) => new Option(`${method} ${path}`, String(index))));
const chosen = () => /** @type {Resource} */ (resources[Number(choice.value)]);
choice.addEventListener("change", () => show(chosen()));
element("request").addEventListener("submit", (event) => {
  event.preventDefault();
  void send(chosen());
});
show(chosen());
