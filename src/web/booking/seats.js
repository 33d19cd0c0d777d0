// The seat map. Up to a hundred or so seats are one grid; more are cut into ranges of a hundred,
// of which one is shown, so that 2 000 seats stay quick, and reachable by number and by keyboard.

import { el, svg } from "../both/dom.js";
import { t } from "../both/language.js";

const ONE_GRID = 120;
const RANGE = 100;
const SEARCH_FROM = 40;

/**
 * A map of seats 1…`capacity`. `onChoose(number)` when the customer picks a free one.
 * `{node, update(free), choose(number or null)}`: `free` is a Set; `choose` marks a seat.
 */
export function seatMap({ capacity, onChoose }) {
  const size = capacity <= ONE_GRID ? capacity : RANGE;
  let free = new Set();
  let chosen = null;
  let first = -1;
  let seats = new Map();

  const grid = el("div", {
    class: capacity > SEARCH_FROM ? "seats small" : "seats", role: "radiogroup", "aria-label": t("seats_label"),
  });
  const ranges = capacity > size ? rangePicker(capacity, size, open) : null;
  const search = capacity > SEARCH_FROM ? seatSearch(capacity, () => free, find) : null;
  const node = el("div", { class: "seat-map" }, search, ranges?.node, grid, legend());

  grid.addEventListener("click", (event) => pick(event.target.closest("[data-seat-no]")));
  grid.addEventListener("keydown", (event) => {
    const at = Number(event.target.dataset.seatNo);
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const to = {
      ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns,
      Home: first, End: Math.min(capacity, first + size - 1),
    }[event.key];
    if (to === undefined || !at) return;
    event.preventDefault();
    if (to >= 1 && to <= capacity) focus(to);
  });

  function pick(seat) {
    if (seat && seat.getAttribute("aria-disabled") !== "true") onChoose(Number(seat.dataset.seatNo));
  }

  function focus(number) {
    open(rangeOf(number));
    for (const [n, seat] of seats) seat.tabIndex = n === number ? 0 : -1;
    seats.get(number).focus();
  }

  function find(number) {
    focus(number);
    if (free.has(number)) onChoose(number);
  }

  function open(start) {
    if (start !== first) {
      first = start;
      const numbers = Array.from({ length: Math.min(size, capacity - first + 1) }, (_, n) => first + n);
      seats = new Map(numbers.map((n) => [n, seatButton(n)]));
      grid.replaceChildren(...seats.values());
      ranges?.mark(first);
    }
    paint();
  }

  function paint() {
    let entry = null;
    for (const [n, seat] of seats) {
      const taken = !free.has(n);
      const state = taken ? "taken" : n === chosen ? "chosen" : "free";
      if (seat.dataset.state !== state) {
        seat.dataset.state = state;
        seat.setAttribute("aria-checked", String(state === "chosen"));
        seat.setAttribute("aria-disabled", String(taken));
        seat.setAttribute("aria-label", t(taken ? "seat_taken" : "seat_free", { n }));
      }
      if (!taken && (entry === null || n === chosen)) entry = n;
    }
    // One seat of the grid is in the tab order; the arrows reach the others.
    if (!grid.contains(document.activeElement)) {
      for (const [n, seat] of seats) seat.tabIndex = n === (entry ?? first) ? 0 : -1;
    }
  }

  const rangeOf = (number) => number - ((number - 1) % size);

  return {
    node,
    update(now) {
      free = now;
      ranges?.update(free);
      if (first === -1) open(rangeOf(free.size > 0 ? Math.min(...free) : 1));
      else paint();
    },
    choose(number) {
      chosen = number;
      if (number !== null && first !== -1) open(rangeOf(number));
      else paint();
    },
  };
}

const seatButton = (n) =>
  el("button", {
    type: "button", class: "seat", role: "radio", tabindex: -1, data: { testid: "seat", seatNo: n },
  }, String(n));

function rangePicker(capacity, size, open) {
  const buttons = new Map();
  for (let from = 1; from <= capacity; from += size) {
    const to = Math.min(capacity, from + size - 1);
    const gauge = el("progress", { class: "gauge", max: to - from + 1, "aria-hidden": "true" });
    const button = el("button", { type: "button", class: "range", on: { click: () => open(from) } },
      el("span", {}, `${from}–${to}`), gauge);
    buttons.set(from, { button, gauge, to });
  }
  return {
    node: el("div", { class: "ranges", role: "group", "aria-label": t("ranges_label") },
      [...buttons.values()].map(({ button }) => button)),
    mark(first) {
      for (const [from, { button }] of buttons) button.setAttribute("aria-pressed", String(from === first));
    },
    update(free) {
      const left = new Map([...buttons.keys()].map((from) => [from, 0]));
      for (const n of free) {
        const from = n - ((n - 1) % size);
        left.set(from, left.get(from) + 1);
      }
      for (const [from, { button, gauge, to }] of buttons) {
        gauge.value = gauge.max - left.get(from);
        button.classList.toggle("full", left.get(from) === 0);
        button.setAttribute("aria-label", t("seat_range", { from, to, n: left.get(from) }));
      }
    },
  };
}

function seatSearch(capacity, free, find) {
  const input = el("input", {
    id: "seat-search", type: "text", inputmode: "numeric", autocomplete: "off",
    maxlength: String(capacity).length, "aria-describedby": "seat-search-answer", data: { testid: "seat-search" },
  });
  const answer = el("p", { class: "hint", id: "seat-search-answer", role: "status" });
  const go = (event) => {
    event.preventDefault();
    const wish = input.value.trim();
    const n = /^\d+$/.test(wish) ? Number(wish) : 0;
    input.setAttribute("aria-invalid", String(n < 1 || n > capacity));
    if (n < 1 || n > capacity) {
      answer.textContent = t("seat_search_bad", { capacity });
      return;
    }
    const near = nearest(n, free(), capacity);
    if (near === n) answer.textContent = "";
    else answer.textContent = near === null ? t("seat_search_full", { n }) : t("seat_search_taken", { n, near });
    find(near ?? n);
  };
  return el("form", { class: "seat-search", novalidate: true, on: { submit: go } },
    el("label", { for: "seat-search" }, t("seat_search")),
    el("div", { class: "field-row" }, input,
      el("button", { type: "submit", class: "button quiet" }, t("seat_search_go"))),
    answer);
}

function nearest(n, free, capacity) {
  for (let step = 0; step < capacity; step += 1) {
    if (free.has(n - step)) return n - step;
    if (free.has(n + step)) return n + step;
  }
  return null;
}

const legend = () =>
  el("ul", { class: "legend", "aria-hidden": "true" },
    ["free", "chosen", "taken"].map((state) =>
      el("li", {},
        svg("svg", { class: `swatch ${state}`, viewBox: "0 0 16 16" },
          svg("rect", { x: 1, y: 1, width: 14, height: 14, rx: 4 })),
        t(`legend_${state}`))));
