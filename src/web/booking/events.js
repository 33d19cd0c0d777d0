// The order's changes as the server tells them. The browser's own EventSource cannot send an
// Authorization header, so the stream is fetched and taken apart here.

import * as api from "./api.js";
import { backoff, pause, repeat } from "./pace.js";

const SILENCE = 40_000; // the server comments every 15 s; after this long the line is dead
const POLL = 3_000;
const TRUST = 20_000; // a stream that has told nothing for so long is checked by asking

/** Takes a text/event-stream apart, in whatever pieces it comes. */
export class EventParser {
  #rest = "";
  #name = "";
  #data = [];
  #id;

  /** `lastEventId` carries on from the connection before; it moves only with a complete event. */
  constructor(lastEventId = "") {
    this.lastEventId = this.#id = lastEventId;
  }

  /** The events that are complete with `piece`: `[{name, data}]`. */
  push(piece) {
    // A "\r" at the end may be half of a "\r\n": it waits for the next piece.
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line === "") {
        this.lastEventId = this.#id;
        if (this.#data.length > 0) events.push({ name: this.#name || "message", data: this.#data.join("\n") });
        [this.#name, this.#data] = ["", []];
      } else {
        this.#field(line);
      }
    }
    return events;
  }

  #field(line) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
    if (field === "id" && !value.includes("\0")) this.#id = value;
  }
}

/**
 * Tells every change of an order until `signal` ends it: `onOrder(document)`, each version once,
 * never an older one after a newer one. By the event stream; while no byte of it comes through (a proxy that
 * buffers, a server that restarts), by asking. `onTrouble(error or null)` as for `repeat`.
 */
export function follow(id, { signal, onOrder, onTrouble }) {
  let version = -1;
  let streaming = false;
  let heard = 0;
  const tell = (order) => {
    heard = Date.now();
    if (signal.aborted || order.version <= version) return;
    version = order.version ?? version;
    onOrder(order);
  };
  const ask = async () => tell(await api.order(id, signal));

  const check = async () => { if (!streaming || Date.now() - heard > TRUST) await ask(); };
  repeat(check, { every: POLL, signal, onTrouble });
  // A phone that comes back from the payment app may have lost the stream without noticing.
  const back = () => document.visibilityState === "visible" && ask().catch(() => {});
  document.addEventListener("visibilitychange", back);
  signal.addEventListener("abort", () => document.removeEventListener("visibilitychange", back));

  (async () => {
    let parser;
    let failures = 0;
    while (!signal.aborted) {
      parser = new EventParser(parser?.lastEventId);
      try {
        await listen(id, parser, signal, (events) => {
          streaming = true;
          failures = 0;
          onTrouble(null);
          for (const { name, data } of events) if (name === "status") tell(JSON.parse(data));
        });
      } catch { /* the polling above tells the customer if something is wrong */ }
      streaming = false;
      failures += 1;
      await pause(backoff(failures), signal);
    }
  })();
}

/** Reads one connection to its end; `onEvents` is called with each piece's events, be there none. */
async function listen(id, parser, signal, onEvents) {
  const line = new AbortController();
  const cut = () => line.abort();
  signal.addEventListener("abort", cut);
  let watchdog;
  try {
    const reader = (await api.orderEvents(id, parser.lastEventId, line.signal)).getReader();
    const decoder = new TextDecoder();
    for (;;) {
      watchdog = setTimeout(cut, SILENCE);
      const { done, value } = await reader.read();
      clearTimeout(watchdog);
      if (done) return;
      onEvents(parser.push(decoder.decode(value, { stream: true })));
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", cut);
    cut();
  }
}
