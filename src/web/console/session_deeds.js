// What operators do with sessions: add one; cancel one, after a look at what that would give back.

import { el } from "../both/dom.js";
import { money } from "../both/format.js";
import { newKey } from "../both/key.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { ask } from "./deed.js";
import { count, facts } from "./say.js";
import { Refused } from "./trouble.js";

const LONGEST_REASON = 80; // bytes: WeChat's limit

export function addSession(onDone) {
  const key = newKey();
  ask({
    title: t("session_add"), lead: t("session_add_lead"), confirm: t("session_add"),
    fields: [
      { name: "course_id", label: t("session_course_id"), required: true, hint: t("session_course_id_hint") },
      { name: "title", label: t("session_name"), hint: t("session_name_hint") },
      { name: "starts_at", label: t("session_starts_at"), kind: "moment", required: true },
      { name: "capacity", label: t("capacity"), kind: "number", min: 1, max: 100_000, required: true },
      { name: "price_fen", label: t("session_price"), kind: "money", hint: t("session_price_hint") },
    ],
    act: async (wish) => {
      const session = await api.addSession(wish, key);
      return () => onDone(session);
    },
  });
}

/** First how, then, with what it comes to before one's eyes, the word for good. */
export function cancelSession(session, onDone) {
  ask({
    title: t("session_cancel"), lead: t("session_cancel_lead"), confirm: t("session_cancel_look"),
    fields: [
      { name: "reason", label: t("session_cancel_reason"), value: t("session_cancel_reason_usual"), required: true, hint: t("session_cancel_reason_hint") },
      { name: "rate", label: t("session_cancel_rate"), kind: "number", value: 5, min: 1, max: 150, required: true, hint: t("session_cancel_rate_hint") },
    ],
    act: async (how) => {
      if (new TextEncoder().encode(how.reason).length > LONGEST_REASON) throw new Refused(t("session_cancel_reason_hint"));
      const would = await api.cancelSession(session.schedule_id, { ...how, dry_run: true });
      return () => confirmCancelling(session, how, would, onDone);
    },
  });
}

function confirmCancelling(session, how, would, onDone) {
  const n = would.bookings;
  ask({
    title: t("session_cancel_sure", { course: session.course }), lead: t("session_cancel_sure_lead"), danger: true,
    confirm: t("session_cancel_do"),
    about: el("div", { class: "forecast-facts", data: { testid: "would" } }, facts([
      [t("session_would_refund"), count(n)],
      [t("session_would_give_back"), money(would.bookings_fen)],
      [t("session_would_close"), count(would.unpaid)],
    ])),
    fields: [{ name: "n", label: t("session_cancel_type", { n }), kind: "number", min: 0, required: true }],
    act: async (typed) => {
      if (typed.n !== n) throw new Refused(t("session_cancel_mistyped", { n }));
      await api.cancelSession(session.schedule_id, how);
      onDone();
    },
  });
}

/** Interrupted by the end of a process, say. */
export function cancelOn(session, onDone) {
  ask({
    title: t("session_cancel_on"), lead: t("session_cancel_on_lead"), confirm: t("session_cancel_on"),
    act: async () => { await api.cancelSession(session.schedule_id, {}); onDone(); },
  });
}
