// The money of a paid order that goes back: each refund with where it is, and the way to ask for one.

import * as api from "./api.js";
import { now } from "../both/clock.js";
import { announce, el } from "../both/dom.js";
import { moment, money } from "./format.js";
import { pendingRefund } from "./intent.js";
import { t } from "../both/language.js";
import { repeat } from "../both/pace.js";
import { reasonWords } from "./reasons.js";
import { refundForm } from "./refund.js";

const EVERY = 3_000;
const UNDER_WAY = ["requested", "processing"];
/** Per status: its words, a sentence about it, and its tone. What this page does not know reads "under way". */
const STATUSES = {
  requested: { word: "refund_requested", more: "refund_requested_text", tone: "wait" },
  processing: { word: "refund_processing", more: "refund_processing_text", tone: "wait" },
  succeeded: { word: "refund_succeeded", more: "refund_succeeded_text", tone: "good" },
  abnormal: { word: "refund_abnormal", more: "refund_abnormal_text", tone: "stop" },
  closed: { word: "refund_closed", more: "refund_closed_text", tone: "wait" },
  paid_by_hand: { word: "refund_paid_by_hand", more: "refund_paid_by_hand_text", tone: "good" },
  not_owed: { word: "refund_not_owed", more: "refund_not_owed_text", tone: "stop" },
  refused: { word: "refund_refused", more: "refund_refused_text", tone: "stop" },
};
const REFUSALS = {
  "not-paid": "refund_refused_not_paid",
  "nothing-left": "refund_refused_nothing_left",
  "more-than-left": "refund_refused_more_than_left",
  "too-many-refunds": "refund_refused_too_many",
  "refund-not-allowed": "refund_refused_not_allowed",
};

/** `{node, open(), update(order)}`. `wanted`: the form is to be open as soon as there is something to refund. */
export function refunds(id, { signal, wanted }) {
  const list = el("ul", { class: "refunds" });
  const history = el("section", { "aria-labelledby": "refunds-title", hidden: true },
    el("h2", { id: "refunds-title" }, t("refunds_title")), list);
  const place = el("div");
  const node = el("div", { class: "money-back no-print", hidden: true }, place, history);
  let order = null;
  let known = [];
  let taken = null; // what the API took and no worker has written down yet
  let form = null;
  let version = -1;
  let said = "";

  repeat(read, { every: EVERY, signal });

  async function read() {
    if (!order?.paid_at) return;
    const moving = taken || order.status === "refunding" || known.some(({ status }) => UNDER_WAY.includes(status));
    const wanted = order.version;
    if (!moving && version === wanted) return;
    known = (await api.refunds(id, undefined, signal)).items;
    version = wanted;
    if (known.some(({ refund_id }) => refund_id === taken?.refund_id)) taken = null;
    if (!signal.aborted) show();
  }

  function show() {
    const all = taken ? [taken, ...known] : known;
    history.hidden = all.length === 0;
    list.replaceChildren(...all.map(row));
    const latest = all[0] ? t(STATUSES[all[0].status]?.word ?? "refund_processing") : "";
    if (said && latest !== said) announce(`${t("refunds_title")}: ${latest}`);
    said = latest;
    if (form) {
      if (left() > 0 || pendingRefund(id)) form.limit(left());
      else close();
    } else if (wanted && left() > 0) {
      open();
    }
  }

  /** What can still be asked for: refunds under way are promised already. */
  function left() {
    if (order?.status !== "confirmed") return 0;
    const gone = (taken ? [taken, ...known] : known).filter(({ status }) => status !== "refused" && status !== "closed");
    const promised = gone.reduce((sum, { amount_fen }) => sum + amount_fen, 0);
    return order.amount_fen - Math.max(promised, order.refunded_fen);
  }

  function open() {
    wanted = true;
    if (form || left() <= 0) return;
    form = refundForm(id, left(), {
      signal,
      onClose: close,
      onTaken(receipt) {
        taken = { created_at: new Date(now()).toISOString(), ...receipt, amount_fen: receipt.amount_fen ?? left() };
        close();
        show();
      },
    });
    place.replaceChildren(form.node);
    form.focus();
  }

  function close() {
    wanted = false;
    form = null;
    place.replaceChildren();
  }

  return {
    node,
    open,
    update(next) {
      order = next;
      node.hidden = !order.paid_at;
      if (order.status !== "confirmed" && form) close();
      if (pendingRefund(id)) wanted = true;
      read().catch(() => { /* the next look has more luck */ });
    },
  };
}

function row(refund) {
  const { word, more, tone } = STATUSES[refund.status] ?? STATUSES.processing;
  const text = refund.status === "refused" ? REFUSALS[refund.refusal] ?? more : more;
  const about = [moment(refund.succeeded_at ?? refund.created_at), reasonWords(refund.reason)];
  return el("li", { data: { testid: "refund", status: refund.status } },
    el("strong", {}, money(refund.amount_fen)),
    el("span", { class: "chip", data: { tone } }, t(word)),
    el("span", { class: "refund-more" }, t(text), " ", el("small", {}, about.filter(Boolean).join(" · "))));
}
