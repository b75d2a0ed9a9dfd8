/** Light or dark: what the system wants, until the button says otherwise. No module: it runs before the first paint. */

(() => {
  const KEY = "mqtt-presence theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  /** The choice; null: none, or none can be kept (a browser that forbids storage). */
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
      // It is for this page only, then.
    }
  };

  /** @param {string | null} theme */
  const show = (theme) => {
    const shown = theme === "dark" || theme === "light" ? theme : system.matches ? "dark" : "light";
    root.dataset.theme = shown;
    const button = document.getElementById("theme");
    const label = shown === "dark" ? "Light appearance" : "Dark appearance";
    button?.setAttribute("aria-label", label);
    button?.setAttribute("title", label);
  };

  show(chosen());
  system.addEventListener("change", () => show(chosen()));
  document.addEventListener("DOMContentLoaded", () => {
    show(chosen());
    document.getElementById("theme")?.addEventListener("click", () => {
      const next = root.dataset.theme === "dark" ? "light" : "dark";
      choose(next === (system.matches ? "dark" : "light") ? null : next); // as the system: follow it again
      show(next);
    });
  });
})();
