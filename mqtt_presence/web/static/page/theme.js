/** Light or dark theme: the system's, or the choice by the button. Not a module, so that it runs before the first paint. */

(() => {
  const KEY = "mqtt-presence theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  /** The stored choice; null without one, or if the browser forbids storage. */
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };

  /** @param {string | null} theme */
  const choose = (theme) => {
    try {
      if (theme === null) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Without storage, the choice is for this page only.
    }
  };

  /** @param {string | null} theme */
  const show = (theme) => {
    const shown = theme === "dark" || theme === "light" ? theme : system.matches ? "dark" : "light";
    root.dataset.theme = shown;
  };

  show(chosen());
  system.addEventListener("change", () => show(chosen()));
  document.addEventListener("click", ({target}) => {
    if (!(target instanceof Element) || target.closest("#theme") === null) return;
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    choose(next === (system.matches ? "dark" : "light") ? null : next); // same as the system's: follow it again
    show(next);
  });
})();
