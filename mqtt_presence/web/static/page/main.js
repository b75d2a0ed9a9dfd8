/** The live page, started. */

import {keepFocus} from "./focus.js";
import {Page} from "./page.js";
import {listenForShortcuts} from "./shortcuts.js";

const root = document.getElementById("page");
if (root === null) throw new TypeError("index.html has no #page");
keepFocus();
listenForShortcuts();
await new Page(root).run();
