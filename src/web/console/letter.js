// One dead letter: what it is, why it is here, what would come of it, and what people know and did.

import { el } from "../both/dom.js";
import { money } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { ask, deedButton } from "./deed.js";
import { discard, restore } from "./letter_deeds.js";
import { planDeed } from "./replay_plan.js";
import { ago, alarm, effect, facts, heading, moment, orderLink, pretty, quote, raw, status } from "./say.js";
import { notice, place, waiting } from "./trouble.js";

export function letterView({ root, signal, retitle, id, go }) {
  retitle(t("letter"));
  const where = place(read);
  root.append(el("a", { class: "back", href: "#/letters" }, t("nav_letters")), heading(t("letter")), where.node);
  read();

  async function read() {
    try {
      const letter = await api.letter(id, signal);
      if (!signal.aborted) where.show(...parts(letter));
    } catch (error) {
      if (!signal.aborted) where.trouble(error);
    }
  }

  function parts(letter) {
    const choice = { letters: [letter.letter_id] };
    const which = t("letter_this");
    const word = el("div", { data: { testid: "wechat-word" } });
    return [
      el("div", { class: "actions deeds" },
        letter.state === "parked" && deedButton(t("replay"), () => planDeed(choice, which, go), { testid: "replay" }),
        letter.state === "parked" && deedButton(t("replay_edited"), () => planDeed(choice, which, go, letter), { testid: "replay-edited" }),
        letter.state === "parked" && deedButton(t("discard"), () => discard(choice, which, read), { danger: true, testid: "discard" }),
        letter.state === "discarded" && deedButton(t("restore"), () => restore(choice.letters, which, read), { testid: "restore" }),
        el("button", { type: "button", class: "button quiet", on: { click: () => askWechat(word) } }, t("wechat_ask"))),
      word,
      el("section", { class: "card", data: { testid: "letter" } },
        el("p", { class: "letter-error" }, quote(letter.error || t("letter_no_error"))),
        letter.unreadable && letter.unreadable !== letter.error &&
          el("p", { class: "hint over" }, t("letter_unreadable"), quote(letter.unreadable)),
        facts([
          [t("letters_error_class"), el("span", { class: "id" }, letter.error_class)],
          [t("state"), t(`letter_${letter.state}`)],
          [t("letters_effect"), effect(letter.effect)],
          [t("letters_kind"), letter.kind && quote(letter.kind, { kind: "id" })],
          [t("queue"), el("span", { class: "id" }, letter.queue)],
          [t("letter_worker"), letter.worker],
          [t("letter_attempt"), letter.attempt],
          [t("letters_failed"), moment(letter.failed_at)],
          [t("money"), letter.money_fen ? money(letter.money_fen) : null],
          [t("letters_open_money"), letter.open_fen ? alarm(money(letter.open_fen)) : null],
          [t("letters_deadline"), letter.next_deadline && moment(letter.next_deadline)],
          [t("order"), letter.order_id && orderLink(letter.order_id)],
          [t("letter_order_now"), letter.order && status(letter.order.status)],
          [t("letter_message_id"), letter.message_id && quote(letter.message_id, { kind: "id" })],
          [t("letters_cause"), el("a", { class: "id", href: `#/letters?cause=${encodeURIComponent(letter.cause)}` }, letter.cause)],
        ])),
      el("h2", {}, t("letter_body")), raw(pretty(letter.body), "body"),
      el("h2", {}, t("letter_headers")), raw(letter.headers),
      el("h2", {}, t("letter_history")), history(letter),
      el("h2", {}, t("letter_notes")), notes(letter),
    ];
  }

  async function askWechat(word) {
    word.replaceChildren(waiting());
    try {
      const said = await api.wechatWord(id, signal);
      word.replaceChildren(el("section", { class: "card" }, facts([
        [t("wechat_asked"), el("span", { class: "id" }, said.number)],
        [t("wechat_state"), said.state ?? el("span", { class: "unknown" }, t("unknown"))],
        [t("transaction"), said.transaction_id],
        [t("money"), said.total_fen && money(said.total_fen)],
        [t("wechat_doubt"), said.doubt],
      ])));
    } catch (error) {
      if (!signal.aborted) word.replaceChildren(notice(error, () => askWechat(word)));
    }
  }

  function notes(letter) {
    const add = deedButton(t("note_add"), () => ask({
      title: t("note_title"), lead: t("note_lead"), fields: [{ name: "words", label: t("note"), kind: "long", required: true }],
      confirm: t("note_add"), act: async ({ words }) => { await api.note(letter.cause, words); read(); },
    }), { testid: "note" });
    return el("div", {}, letter.notes.length === 0 && el("p", { class: "hint" }, t("notes_none")),
      letter.notes.map((note) => el("blockquote", { class: "note" }, el("p", {}, quote(note.note)),
        el("p", { class: "hint" }, note.author, " · ", ago(note.written_at)))), add && el("div", { class: "actions" }, add));
  }
}

function history({ replays, acts }) {
  if (replays.length + acts.length === 0) return el("p", { class: "hint" }, t("letter_no_history"));
  return el("ul", { class: "history" },
    replays.map((replay) => el("li", {}, el("a", { class: "id", href: `#/replays/${replay.replay_id}` }, t("replay")), " ",
      t(`result_${replay.result}`), replay.detail && el("span", { class: "hint" }, " · ", quote(replay.detail)))),
    acts.map((act) => el("li", {}, el("strong", {}, t(`act_${act.act}`)), ` · ${act.actor} · `, moment(act.at),
      act.reason && el("span", { class: "hint" }, " · ", quote(act.reason)))));
}
