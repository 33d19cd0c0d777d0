// The first page: what stands open and wants a person, then the queues, as the stream tells them.

import { el } from "../both/dom.js";
import { money } from "../both/format.js";
import { count as plural, t } from "../both/language.js";
import * as live from "./live.js";
import { alarm, count, heading, none, span, unknown } from "./say.js";
import { table } from "./table.js";
import { waiting } from "./trouble.js";

export function nowView({ root, signal, retitle }) {
  retitle(t("nav_now"));
  const dead = tile("dead", t("tile_dead"), "#/letters");
  const cases = tile("cases", t("tile_cases"), "#/cases");
  const doubt = tile("doubt", t("tile_doubt"), "#/money");
  const breakers = tile("breakers", t("tile_breakers"));
  const trouble = el("div", {});
  const work = queues(t("queues_work"), [
    ready(), inHand(), perMinute("done"), perMinute("retried"), perMinute("parked"), oldest(), consumers(), breaker(),
  ], "work");
  const letters = queues(t("queues_dead"), [ready()], "dead");
  const delays = queues(t("queues_delay"), [ready()], "delay");
  const room = el("div", {},
    el("h2", {}, t("queues_work")), work.node,
    el("div", { class: "side-by-side" },
      el("section", {}, el("h2", {}, t("queues_dead")), letters.node),
      el("section", {}, el("h2", {}, t("queues_delay")), delays.node)));
  const wait = waiting();
  room.hidden = true;
  root.append(heading(t("now_title")), el("ul", { class: "tiles" }, [dead, cases, doubt, breakers].map(({ node }) => el("li", {}, node))),
    trouble, wait, room);

  live.watch(signal, (overview, standing) => {
    wait.hidden = standing !== "starting";
    trouble.replaceChildren(...troubles(overview, standing));
    for (const one of [dead, cases, doubt, breakers]) one.show(undefined);
    if (!overview) return;
    room.hidden = false;
    const all = overview.queues.items;
    const of = (purpose) => all.filter((queue) => queue.purpose === purpose);
    dead.show(overview.dead_letters, "bad");
    cases.show(overview.cases?.open, "bad", overview.cases?.open ? money(overview.cases.money_fen) : "");
    const inDoubt = overview.money_in_doubt;
    doubt.show(inDoubt && (inDoubt.orders === 0 ? 0 : money(inDoubt.money_fen)), "wait",
      inDoubt?.orders ? plural("tile_orders", inDoubt.orders) : "");
    const told = of("work").filter((queue) => queue.breaker);
    const open = told.filter((queue) => queue.breaker === "open").map((queue) => queue.queue);
    breakers.show(told.length === 0 ? null : open.length, "bad", open.join(", "));
    work.update(of("work"));
    letters.update(of("dead"));
    delays.update(of("delay"));
  });
}

/** `undefined` shows nothing yet, `null` that nobody can tell; a number other than 0 has the tone. */
function tile(testid, label, href) {
  const value = el("strong", {});
  const detail = el("span", { class: "hint" });
  const node = el(href ? "a" : "div", { class: "tile", href, data: { testid: `tile-${testid}` } }, el("span", {}, label), value, detail);
  return {
    node,
    show(what, tone, words = "") {
      value.replaceChildren(what === undefined ? "…" : what === null ? unknown() : typeof what === "number" ? count(what) : what);
      node.dataset.tone = what ? tone : "";
      detail.textContent = words;
    },
  };
}

function troubles(overview, standing) {
  const line = (words) => el("p", { class: "trouble-line", role: "alert" }, words);
  return [
    standing === "lost" && line(t("live_lost_long")),
    overview?.queues.broker === "away" && line(t("broker_away")),
    overview?.queues.heartbeats === "away" && line(t("heartbeats_away")),
  ].filter(Boolean);
}

function queues(label, columns, testid) {
  const letters = (queue) => el("a", { href: `#/letters?queue=${queue}` }, queue);
  const name = {
    title: t("queue"), kind: "id", cell: ({ queue, purpose }) => purpose === "dead" ? letters(queue) : queue,
  };
  return table({
    label, testid: `queues-${testid}`, columns: [name, ...columns], key: (queue) => queue.queue,
    tone: (queue) => queue.missing || queue.breaker === "open" || (queue.purpose === "dead" && queue.ready > 0) ? "bad" : null,
  });
}

const ready = () => ({
  title: t("ready"), kind: "number", hint: t("ready_hint"),
  cell: (queue) => queue.missing ? alarm(t("missing")) : count(queue.ready),
});
const inHand = () => ({ title: t("in_hand"), kind: "number", hint: t("in_hand_hint"), cell: (queue) => count(queue.in_hand) });
const perMinute = (what) => ({
  title: t(`minute_${what}`), kind: "number spare", hint: t("minute_hint"), cell: (queue) => count(queue.last_minute?.[what]),
});
const oldest = () => ({
  title: t("oldest"), kind: "number", hint: t("oldest_hint"),
  cell: (queue) => {
    if (queue.oldest_seconds !== null) return span(queue.oldest_seconds);
    return queue.in_hand === 0 && queue.ready === 0 ? none() : unknown();
  },
});
const consumers = () => ({
  title: t("consumers"), kind: "number",
  cell: (queue) => queue.consumers === 0 ? alarm("0") : count(queue.consumers),
});
const breaker = () => ({
  title: t("breaker"), hint: t("breaker_hint"),
  cell: (queue) => queue.breaker === null ? unknown()
    : el("span", queue.breaker === "open" ? { class: "chip", data: { tone: "bad" } } : { class: "zero" }, t(`breaker_${queue.breaker}`)),
});
