/** @file Keys: one listener, layers of bindings, and the list that the `?` sheet and the documentation show. */

import { createContext, useContext, useEffect, useRef } from "./html.js";

/** How deep in dialogs a component stands: keys go to the uppermost layer only. */
export const Layer = createContext(0);

/** All keys, by where they work. */
export const KEYS = [
  ["Everywhere", [
    ["?", "this sheet"],
    ["/", "to the text field of the view, or to search"],
    ["g then c m r", "to clusters, map, review"],
    ["g then s v h a", "to search, videos, history, all segments"],
    ["Ctrl/⌘ Z", "undo"],
    ["Ctrl/⌘ Shift Z", "redo"],
    ["1 2 3", "group by both, by sight, by sound"],
    [".", "moving pictures on or off"],
    ["Shift L", "sound on hover on or off"],
    ["Esc", "close, or clear the selection"],
  ]],
  ["Clusters", [
    ["← ↑ → ↓ Home End", "from card to card"],
    ["Enter", "open the cluster"],
    ["Space or l", "hear its best example"],
    ["n", "name it"],
    ["m", "merge it, or the chosen ones, with another"],
    ["s", "split it"],
    ["r", "review it"],
    ["Shift Space", "choose it for a merge"],
  ]],
  ["Segments", [
    ["← ↑ → ↓ Home End PgUp PgDn", "from segment to segment"],
    ["Shift and those", "extend the selection"],
    ["Ctrl/⌘ A", "select all"],
    ["Shift Space", "select the one in focus, or not"],
    ["Enter", "open in the player"],
    ["Space or l", "hear it"],
    ["y", "confirm: these belong here"],
    ["v", "move to another cluster"],
    ["Shift N", "make a new cluster of them"],
    ["x", "reject, or restore what was rejected"],
    ["f", "find more like it"],
    ["n m s", "name, merge or split the cluster shown"],
  ]],
  ["Player", [
    ["Space", "play or pause"],
    ["← →", "a second back or on"],
    [", .", "a frame back or on"],
    ["< >", "slower or faster"],
    ["o", "loop the segment, or not"],
    ["[ ]", "a stretch begins, ends here"],
    ["f", "find more like the segment or the stretch"],
    ["j k", "next, previous segment of the list"],
    ["y v x", "confirm, move, reject"],
  ]],
  ["Review", [
    ["y", "yes"],
    ["n", "no"],
    ["1 to 9", "it is that other cluster"],
    ["v", "choose another cluster from all"],
    ["s or →", "skip"],
    ["Space", "play or pause"],
  ]],
  ["Map", [
    ["← ↑ → ↓", "move"],
    ["+ − 0", "closer, farther, all"],
    ["j k", "the next, previous segment near the middle"],
    ["Enter", "open it"],
    ["b", "lasso on or off"],
  ]],
];

const bindings = []; // {layer, map: ref}
let prefix = "", prefixTimer = 0;

/** What a key event is called: "mod+z", "shift+n", "arrowleft", "?". */
export function keyName(event) {
  const single = event.key.length === 1;
  const name = event.key === " " ? "space" : event.key.toLowerCase();
  // A sign that needs Shift on some keyboards and not on others (? / < +) is called by itself.
  const shift = event.shiftKey && (!single || /[a-z ]/i.test(event.key));
  return `${event.ctrlKey || event.metaKey ? "mod+" : ""}${event.altKey ? "alt+" : ""}${shift ? "shift+" : ""}${name}`;
}

function typing(target) {
  if (target.isContentEditable || target.tagName === "TEXTAREA" || target.tagName === "SELECT") return true;
  return target.tagName === "INPUT" && !["range", "checkbox", "radio", "button", "file"].includes(target.type);
}

/** Keys that an element has a use for itself. */
function taken(target, name) {
  if (name === "enter" && target.closest("a, button, summary")) return true;
  if (name === "space" && target.closest("button, summary")) return true;
  return target.tagName === "INPUT" && /^(arrow|home|end|page|space|enter)/.test(name);
}

function onKey(event) {
  if (event.defaultPrevented || event.isComposing || ["Control", "Shift", "Alt", "Meta"].includes(event.key)) return;
  let name = keyName(event);
  if (typing(event.target) && name !== "escape") return;
  if (taken(event.target, name)) return;
  if (prefix) { name = `${prefix} ${name}`; prefix = ""; clearTimeout(prefixTimer); }
  const top = Math.max(0, ...bindings.map((b) => b.layer));
  for (let i = bindings.length - 1; i >= 0; i--) {
    if (bindings[i].layer !== top) continue;
    const handler = bindings[i].map.current[name];
    if (handler && handler(event) !== false) { event.preventDefault(); return; }
  }
  if (name === "g" && top === 0) {
    prefix = "g";
    prefixTimer = setTimeout(() => { prefix = ""; }, 1500);
  }
}
addEventListener("keydown", onKey);

/**
 * Let keys do something while a component is on the page.
 * @param {Object<string, (event: KeyboardEvent) => (boolean|void)>} map by `keyName`; a handler that returns false
 *   passes the key on
 */
export function useKeys(map) {
  const layer = useContext(Layer);
  const latest = useRef(map);
  latest.current = map;
  useEffect(() => {
    const binding = { layer, map: latest };
    bindings.push(binding);
    return () => { bindings.splice(bindings.indexOf(binding), 1); };
  }, [layer]);
}
