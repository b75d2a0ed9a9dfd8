/** Painting once for many changes: at most one picture in a frame, and not more than a few in a second. */

/** Thousands of users change hundreds of times a second: nobody can read that. */
const PAUSE_MS = 150;

/**
 * Return a function that asks for a new picture, soon.
 *
 * @param {() => void} paint
 * @returns {() => void}
 */
export function makePainter(paint) {
  let asked = false;
  let last = -Infinity;
  const now = () => {
    asked = false;
    last = performance.now();
    paint();
  };
  return () => {
    if (asked) return;
    asked = true;
    const wait = last + PAUSE_MS - performance.now();
    if (wait <= 0) requestAnimationFrame(now);
    else setTimeout(() => requestAnimationFrame(now), wait);
  };
}
