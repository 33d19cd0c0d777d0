// Who uses the page. It has no login of its own: whoever embeds it hands a token over as
// "#token=<JWT>" (with "&to=/orders/<id>" to arrive there), where no server log sees it; it leaves
// the address bar at once and lives as long as the tab. It is opened here for display only; who
// judges it is the API. Each page keeps its own: an operator is no customer.

const STORE = `holdfast.token${location.pathname.replace(/\/$/, "")}`;
let held = null;

/** Takes a token that was handed over in the address, once, before anything reads the address. */
export function arrive() {
  const handed = /^#token=([^&]+)(?:&to=(\/[^&]*))?/.exec(location.hash);
  if (handed) {
    keep(decodeURIComponent(handed[1]));
    history.replaceState(null, "", `${location.pathname}${location.search}#${handed[2] ?? "/"}`);
  } else {
    try { held = sessionStorage.getItem(STORE); } catch { held = null; }
  }
}

export const token = () => held;

/** The user id in the token, or an empty string. */
export const user = () => claim("sub");

/** `customer`, `viewer`, `operator`, or an empty string. */
export const role = () => claim("role");

function claim(name) {
  try {
    const part = held.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    return String(JSON.parse(new TextDecoder().decode(bytes))[name] ?? "");
  } catch {
    return "";
  }
}

export function keep(next) {
  held = next;
  try { sessionStorage.setItem(STORE, next); } catch { /* private mode: until the next load */ }
}

/** Signs out; `refused` when the API no longer takes the token, so that the page can say why. */
export function forget(refused = false) {
  held = null;
  try { sessionStorage.removeItem(STORE); } catch { /* nothing was kept */ }
  dispatchEvent(new CustomEvent("holdfast:signed-out", { detail: { refused } }));
}
