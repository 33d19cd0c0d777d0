// What went wrong, in the customer's words: the server's own explanation as it is, or ours when
// there was none, with the request id small for whoever is asked for help.

import { NoAnswer, Problem } from "./api.js";
import { el } from "../both/dom.js";
import { t } from "../both/language.js";

export function message(error) {
  if (error instanceof Problem) {
    return error.userMessage || t(error.passing ? "trouble_server" : "trouble_refused");
  }
  if (error instanceof NoAnswer) return t("trouble_network");
  console.error(error);
  return t("trouble_bug");
}

export const requestId = (error) =>
  error?.requestId ? el("p", { class: "request-id" }, t("request_id", { id: error.requestId })) : null;

/** A notice with a way on: `onRetry`, or `link` `{href, text}`. */
export function notice(error, { title = t("trouble_title"), onRetry, link } = {}) {
  return el("section", { class: "notice", role: "alert" },
    el("h2", {}, title),
    el("p", {}, message(error)),
    el("div", { class: "actions" },
      onRetry && el("button", { type: "button", class: "button", on: { click: onRetry } }, t("retry")),
      link && el("a", { class: "button quiet", href: link.href }, link.text)),
    requestId(error));
}

/** One line over the page that appears while `repeat` has trouble: `{node, show(error or null)}`. */
export function troubleLine() {
  const node = el("p", { class: "trouble-line no-print", role: "status", hidden: true });
  return {
    node,
    show(error) {
      node.hidden = !error;
      const final = error instanceof Problem && !error.passing;
      node.textContent = final ? message(error) : error ? t("reconnecting") : "";
    },
  };
}
