/** @file Where we are, kept in the address's hash: #/view/argument?name=value. Reload, back and links work by it. */

import { createStore } from "./store.js";

const VIEWS = ["clusters", "cluster", "segments", "map", "review", "search", "videos", "history"];

/**
 * Read a hash.
 * @param {string} hash
 * @returns {{view: string, argument: string|null, params: Object<string, string>}}
 */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, argument] = path.split("/").map(decodeSafely);
  return {
    view: VIEWS.includes(view) ? view : "clusters",
    argument: argument || null,
    params: Object.fromEntries(new URLSearchParams(query)),
  };
}

function decodeSafely(text) {
  try { return decodeURIComponent(text); } catch { return text; } // a hand-typed % is no reason to fail
}

/**
 * The address of a view.
 * @param {string} view
 * @param {string|null} argument
 * @param {Object<string, any>} params members that are empty are left out
 */
export function address(view, argument = null, params = {}) {
  const kept = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#/${view}${argument === null ? "" : `/${encodeURIComponent(argument)}`}${query ? `?${query}` : ""}`;
}

/** The place shown now. */
export const route = createStore(parse(location.hash));
addEventListener("hashchange", () => route.set(parse(location.hash)));

/** The parameters that go along from view to view. */
const LASTING = ["by"];

/** The address of another view, with the labelling looked at now. */
export function link(view, argument = null, params = {}) {
  const now = route.get().params;
  return address(view, argument, { ...Object.fromEntries(LASTING.map((name) => [name, now[name]])), ...params });
}

/** Go to another view, as a click on a link does. */
export function go(view, argument = null, params = {}) { location.hash = link(view, argument, params); }

/**
 * Change parameters of the view shown now.
 * @param {Object<string, any>} params null or "" takes one away
 * @param {{push?: boolean}} options push: "back" leads to how it was before (dialogs); otherwise the entry is replaced
 */
export function setParams(params, { push = false } = {}) {
  const { view, argument, params: old } = route.get();
  const hash = address(view, argument, { ...old, ...params });
  if (hash === location.hash) return;
  if (push) { location.hash = hash; return; }
  history.replaceState(history.state, "", hash);
  route.set(parse(hash));
}
