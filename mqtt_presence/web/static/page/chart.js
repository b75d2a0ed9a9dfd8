/** A chart of the number of users online over time, by uPlot, which is loaded with the first chart. */

import {dayOf, hourTime, moment} from "./times.js";
import {html, useEffect, useRef} from "./view.js";

/** @typedef {{at: number, online: number}} Point */

const HEIGHT = 150;
const DAY_S = 86_400;

/** @type {Promise<typeof import("uplot")> | undefined} */
let loading;

/** Load uPlot and its style sheet, once. */
function library() {
  loading ??= (async () => {
    const url = new URL("../vendor/uplot", import.meta.url).href;
    const sheet = Object.assign(document.createElement("link"), {rel: "stylesheet", href: `${url}.css`});
    document.head.append(sheet);
    return (await import(`${url}.js`)).default;
  })();
  return loading;
}

/** @param {{points: Point[], now: Date}} props */
export function Chart({points, now}) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const theme = document.documentElement.dataset.theme;
  useEffect(() => {
    /** @type {import("uplot") | null} */
    let plot = null;
    let isGone = false;
    const observer = new ResizeObserver(() => plot?.setSize({width: widthOf(place.current), height: HEIGHT}));
    library().then((UPlot) => {
      if (isGone || place.current === null) return;
      const data = /** @type {[number[], number[]]} */ ([points.map(({at}) => at / 1000), points.map(({online}) => online)]);
      plot = new UPlot(options(place.current, isLong(points)), data, place.current);
      observer.observe(place.current);
    }, () => {
      loading = undefined; // the next chart tries again
    });
    return () => {
      isGone = true;
      observer.disconnect();
      plot?.destroy();
    };
  }, [points, theme]);
  return html`<div class="chart" id="chart" role="img" aria-label=${summary(points, now)} ref=${place}></div>`;
}

/** @param {HTMLElement | null} element */
const widthOf = (element) => Math.max(200, element?.clientWidth ?? 0);

/** Whether days are the labels, not hours. @param {Point[]} points */
const isLong = (points) => Number(points.at(-1)?.at) - Number(points[0]?.at) > 2 * DAY_S * 1000;

/**
 * @param {HTMLElement} element
 * @param {boolean} long
 * @returns {import("uplot").Options}
 */
function options(element, long) {
  const style = getComputedStyle(element);
  const [soft, grid, bar] = ["--soft", "--line", "--online-bar"].map((name) => style.getPropertyValue(name));
  const axis = {stroke: soft, grid: {stroke: grid, width: 1}, ticks: {stroke: grid, width: 1}, font: `12px ${style.fontFamily}`};
  const label = (/** @type {number} */ at) => (long ? dayOf : hourTime)(new Date(at * 1000));
  const values = (/** @type {unknown} */ _plot, /** @type {number[]} */ marks) => marks.map(label);
  const days = long ? {incrs: [1, 2, 5, 10, 30, 60, 120].map((count) => count * DAY_S)} : {};
  return {
    width: widthOf(element),
    height: HEIGHT,
    legend: {show: false},
    cursor: {show: false},
    scales: {y: {range: (/** @type {unknown} */ _plot, /** @type {number} */ _low, /** @type {number} */ high) => [0, Math.max(1, high)]}},
    axes: [{...axis, ...days, values, space: 70}, {...axis, size: 46, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6]}],
    series: [{}, {stroke: bar, width: 1.5, fill: `color-mix(in srgb, ${bar} 22%, transparent)`, points: {show: false}}],
  };
}

/**
 * @param {Point[]} points
 * @param {Date} now
 */
function summary(points, now) {
  if (points.length === 0) return "No data";
  const most = points.reduce((best, point) => (point.online > best.online ? point : best));
  const [last] = points.slice(-1);
  return `Users online over time: at most ${most.online}, at ${moment(new Date(most.at), now)}; ${last?.online} at the end`;
}
