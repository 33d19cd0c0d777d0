// What went wrong, over time: a row of bars for each class of error and each of WeChat's codes. The rows of a
// group share one scale and one line of time.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { bars } from "./plot.js";
import { count, heading, quote } from "./say.js";
import { nothing, place } from "./trouble.js";

const RANGES = ["hour", "day", "week"];
const SOURCES = ["parked", "retried", "wechat"];

export function errorsView({ root, signal, retitle, query }) {
  retitle(t("nav_errors"));
  const range = RANGES.includes(query.get("range")) ? query.get("range") : "hour";
  const where = place(() => again());
  root.append(heading(t("errors_title"), t("errors_lead")),
    el("nav", { class: "tabs", "aria-label": t("errors_range") }, RANGES.map((one) =>
      el("a", { class: "tab", href: `#/errors?range=${one}`, "aria-current": one === range ? "true" : null },
        t(`range_${one}`)))),
    where.node);
  const again = refresh(signal, async () => {
    const found = await api.errors(range, signal);
    if (signal.aborted) return;
    if (found.items.length === 0) return where.show(nothing(t(`errors_none_${range}`)));
    where.show(...SOURCES.filter((source) => found.items.some((row) => row.source === source)).map((source) => group(source, found)));
  }, { onTrouble: (error) => where.trouble(error) });
}

function group(source, { items, from, column_seconds }) {
  const rows = items.filter((row) => row.source === source);
  const most = Math.max(...rows.flatMap((row) => row.counts));
  return el("section", { data: { testid: `errors-${source}` } }, el("h2", {}, t(`errors_${source}`)),
    el("ul", { class: "error-rows" }, rows.map((row, at) => el("li", { data: { name: row.name, source } },
      quote(row.name, { kind: "id" }), el("strong", {}, count(row.total)),
      bars({
        counts: row.counts, from: Date.parse(from), seconds: column_seconds, most, isLast: at === rows.length - 1,
        label: t("errors_plot", { name: row.name, n: row.total }),
      })))));
}
