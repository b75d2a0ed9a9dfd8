/** The name of a user who signed in without a password, for a reload of this tab. The one module with a storage for it. */

/** @typedef {import("./session.js").SignIn} SignIn */

const KEY = "mqtt-presence signed in";

/** Return who was signed in before the reload; null for nobody. @returns {SignIn | null} */
export function keptSignIn() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    return typeof kept?.user === "string" ? {user: kept.user, password: null, looks: kept.looks === true} : null;
  } catch {
    return null; // the browser forbids storage
  }
}

/** @param {SignIn} signIn without a password */
export function keepSignIn({user, looks}) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({user, looks}));
  } catch {
    // Without storage, a reload asks again.
  }
}

/** Ask again after the next reload. */
export function forgetSignIn() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Without storage, there is nothing to remove.
  }
}
