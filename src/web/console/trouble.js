// What went wrong, as an operator wants it: the sentence, the server's detail, and the request id for
// the logs.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import { NoAnswer, Problem } from "./api.js";

/** A no that this page says itself, in the reader's words. */
export class Refused extends Error {}

export function words(error) {
  if (error instanceof Refused) return error.message;
  if (error instanceof Problem) return error.userMessage || t("trouble_refused");
  if (error instanceof NoAnswer) return t("trouble_network");
  console.error(error);
  return t("trouble_bug");
}

/** A notice with a way on. */
export function notice(error, onRetry) {
  return el("section", { class: "notice", role: "alert" },
    el("h2", {}, t("trouble_title")),
    el("p", {}, words(error)),
    error instanceof Problem && el("p", { class: "hint" }, error.message),
    onRetry && el("div", { class: "actions" },
      el("button", { type: "button", class: "button quiet", on: { click: onRetry } }, t("retry"))),
    error.requestId ? el("p", { class: "request-id" }, t("request_id", { id: error.requestId })) : null);
}

/** What stands on a page before its first answer comes. */
export const waiting = () => el("div", { class: "waiting-room", role: "status" }, el("div", { class: "waiting" }), t("loading"));

export const nothing = (sentence) => el("p", { class: "empty" }, sentence);

/**
 * A place for what is read: waits visibly, shows `show(document)`, or the trouble when there is nothing to
 * show; later troubles stand as a line over what was read last. `{node, show, trouble}`
 */
export function place(onRetry) {
  const line = el("p", { class: "trouble-line floating", role: "status", hidden: true });
  const room = el("div", {}, waiting());
  let full = false;
  return {
    node: el("div", { "aria-busy": "true" }, line, room),
    show(...nodes) {
      full = true;
      this.node.setAttribute("aria-busy", "false");
      room.replaceChildren(...nodes.filter(Boolean));
    },
    trouble(error) {
      line.hidden = !(error && full);
      line.textContent = error && full ? `${words(error)} ${t("trouble_old")}` : "";
      if (error && !full) room.replaceChildren(notice(error, onRetry));
    },
  };
}
