/** Safe display of names and other texts from users. Pure. */

/** Invisible characters and those that reverse text: they would make one name look like another. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}\u115f\u1160\u3164\uffa0]/gu;
/** Joiners between the parts of one emoji, which are shown unchanged. */
const JOINED = /(?<=\p{Extended_Pictographic}\ufe0f?\p{Emoji_Modifier}?)\u200d(?=\p{Extended_Pictographic})/gu;

/**
 * Return a text with its invisible characters escaped, as in `\u202e`.
 *
 * @param {string} text
 */
export function visible(text) {
  const parts = text.split(JOINED);
  return parts.map((part) => part.replace(UNSEEN, escaped)).join("\u200d");
}

/** @param {string} character */
function escaped(character) {
  const code = (character.codePointAt(0) ?? 0).toString(16);
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`;
}

const segmenter = new Intl.Segmenter(undefined, {granularity: "grapheme"});

/**
 * Return the letter for the avatar of a name.
 *
 * @param {string} name
 */
export function initial(name) {
  const [first] = segmenter.segment(visible(name).replace(/^[^\p{L}\p{N}\p{Extended_Pictographic}]+/u, "") || "?");
  return (first?.segment ?? "?").toLocaleUpperCase();
}

/**
 * Return the hue of a name in degrees, always the same for a name.
 *
 * @param {string} name
 */
export function hue(name) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return ((hash ^ (hash >>> 15)) >>> 0) % 360;
}

/** The names of browsers in user agents, specific ones before general ones. */
const BROWSERS = [
  [/\bEdgA?\/(\d+)/, "Edge"],
  [/\bOPR\/(\d+)/, "Opera"],
  [/\bFirefox\/(\d+)/, "Firefox"],
  [/\bHeadlessChrome\/(\d+)/, "Chrome (headless)"],
  [/\bChrome\/(\d+)/, "Chrome"],
  [/\bVersion\/(\d+)[\d.]* (?:Mobile\/\w+ )?Safari\//, "Safari"],
];
const SYSTEMS = [
  [/\bAndroid\b/, "Android"],
  [/\b(?:iPhone|iPad)\b/, "iOS"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b/, "macOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bLinux\b/, "Linux"],
];

/**
 * Return a short form of a browser's user agent, and any other text unchanged.
 *
 * @param {string} text
 */
export function agent(text) {
  for (const [pattern, name] of BROWSERS) {
    const found = text.match(/** @type {RegExp} */ (pattern));
    if (found === null) continue;
    const system = SYSTEMS.find(([mark]) => /** @type {RegExp} */ (mark).test(text));
    return `${name} ${found[1]}${system ? ` on ${system[1]}` : ""}`;
  }
  return visible(text);
}
