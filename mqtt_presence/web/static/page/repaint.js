/** Repainting once for many changes: at most once in a frame, and a few times a second. */

/** Milliseconds between two repaints. With thousands of users there are hundreds of changes a second. */
const PAUSE_MS = 150;

/**
 * Return a function that schedules a repaint.
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
