/** The architecture of the live page: pure modules without a page, no markup from texts, no inline code. */

import assert from "node:assert/strict";
import {readdirSync, readFileSync} from "node:fs";
import {test} from "node:test";

const STATIC = new URL("../../mqtt_presence/web/static/", import.meta.url);
const files = readdirSync(new URL("page/", STATIC)).filter((name) => name.endsWith(".js"));
const source = new Map(files.map((name) => [name, readFileSync(new URL(`page/${name}`, STATIC), "utf-8")]));
const html = readFileSync(new URL("index.html", STATIC), "utf-8");

/** Modules without page, network and clock, which run in Node. */
const PURE = [
  "answers.js", "arrivals.js", "freshness.js", "display-names.js", "presence-figures.js", "ranges.js", "route.js", "user-list.js", "timeline.js", "times.js",
  "texts.js",
];
const IMPURE = /\b(?:document|window|location|localStorage|fetch|setTimeout|setInterval|performance)\b|\bDate\.now\b/;

/** Return the code without comments. */
const code = (text) => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
const imports = (text) => [...code(text).matchAll(/^import .* from "(.*)";$/gm)].map(([, from]) => from);

test("pure modules use no page and import pure modules only", () => {
  for (const name of PURE) {
    const text = source.get(name) ?? assert.fail(`${name} is not there`);
    assert.equal(code(text).match(IMPURE), null, name);
    for (const from of imports(text)) assert.ok(PURE.includes(from.replace("./", "")), `${name} imports ${from}`);
  }
});

test("texts cannot become markup or code", () => {
  for (const [name, text] of source) {
    const found = code(text).match(/dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|DOMParser|srcdoc|document\.write|\beval\b|new Function/);
    assert.equal(found, null, name);
  }
});

test("credentials are kept nowhere", () => {
  for (const [name, text] of source) {
    if (name === "theme.js") continue; // keeps light or dark, and knows nothing else
    if (name === "kept-sign-in.js") continue; // keeps the name of a sign-in without a password; see tests/browser
    assert.equal(code(text).match(/localStorage|sessionStorage|indexedDB|document\.cookie/), null, name);
  }
});

test("index.html has no inline code and no files from elsewhere", () => {
  assert.equal(html.match(/<style|\sstyle=|\son\w+=|javascript:/), null);
  for (const [tag] of html.matchAll(/<script[^>]*>/g)) assert.match(tag, /src="static\//);
  for (const [, address] of html.matchAll(/(?:src|href)="([^"]*)"/g)) assert.match(address, /^(?:static\/|#)/);
});

test("each id is given once", () => {
  const given = [html, ...source.values()].flatMap((text) => [...text.matchAll(/\bid="([\w-]+)"/g)].map(([, id]) => id));
  const shared = new Set(["line-detail", "lines", "timeline"]); // in views that are never shown together
  const twice = given.filter((id, index) => given.indexOf(id) !== index && !shared.has(id));
  assert.ok(given.length > 60, `${given.length} ids`);
  assert.deepEqual(twice, []);
});

test("the view library is imported in one module", () => {
  const importing = [...source].filter(([, text]) => imports(text).some((from) => from.includes("vendor/preact")));
  assert.deepEqual(importing.map(([name]) => name), []); // an export from, in view.js
  assert.match(source.get("view.js"), /from "\.\.\/vendor\/preact\.js"/);
});

test("only page and session import the client library, and only its public module", () => {
  const library = [...source].flatMap(([name, text]) =>
    imports(text).filter((from) => from.startsWith("../")).map((from) => `${name} ${from}`),
  );
  assert.deepEqual(library.sort(), ["page.js ../presence.js", "session.js ../presence.js"]);
});
