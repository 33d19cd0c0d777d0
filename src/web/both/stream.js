// Server-sent events. The browser's own EventSource cannot send an Authorization header, so a stream is
// fetched and taken apart here.

const SILENCE = 40_000; // the server comments every 15 s; after this long the line is dead

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
 * Reads one connection to its end: `open(signal)` gives its body; `onEvents` is called with each piece's events,
 * be there none.
 */
export async function listen(open, parser, signal, onEvents) {
  const line = new AbortController();
  const cut = () => line.abort();
  signal.addEventListener("abort", cut);
  let watchdog;
  try {
    const reader = (await open(line.signal)).getReader();
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
