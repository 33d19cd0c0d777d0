// Bars over time, as SVG without a library: one column per stretch of time, all rows of a group on one scale.

import { svg } from "../both/dom.js";
import { format } from "../both/format.js";

const [WIDTH, HEIGHT, GAP] = [6, 44, 2];

/** `counts` per column from `from` (ms), `seconds` each; `most` is the tallest of the group, whose last row tells the time. */
export function bars({ counts, from, seconds, most, label, isLast }) {
  const width = counts.length * (WIDTH + GAP);
  const hour = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const day = { month: "2-digit", day: "2-digit", ...hour };
  const at = (column) => format(from + column * seconds * 1000, seconds < 3600 ? hour : day);
  const columns = counts.map((n, column) => {
    const tall = n === 0 ? 1 : Math.max(3, Math.round(n / most * HEIGHT));
    return svg("rect", { class: n === 0 ? "bar none" : "bar", x: column * (WIDTH + GAP), y: HEIGHT - tall, width: WIDTH, height: tall },
      svg("title", {}, `${at(column)} · ${n}`));
  });
  const mark = (column, anchor) => svg("text", {
    class: "plot-tick", x: anchor === "end" ? width - GAP : column * (WIDTH + GAP), y: HEIGHT + 14, "text-anchor": anchor,
  }, at(column));
  return svg("svg", { class: "plot", viewBox: `0 0 ${width} ${HEIGHT + (isLast ? 18 : 0)}`, role: "img", "aria-label": label },
    columns, isLast && [mark(0, "start"), mark(Math.floor(counts.length / 2), "middle"), mark(counts.length - 1, "end")]);
}
