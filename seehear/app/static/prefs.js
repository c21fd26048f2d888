/** @file What a person prefers on this machine: kept in localStorage, never in the run. */

import { createStore } from "./store.js";

const KEY = "seehear.preferences";
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const DEFAULTS = { theme: "auto", muted: false, moving: !calm.matches, volume: 1, tile: 0 };

function read() {
  try { return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) || "{}") }; } catch { return { ...DEFAULTS }; }
}

/** Theme (auto, light, dark), muted, whether thumbnails move, volume. */
export const prefs = createStore(read());

/** Whether the page is dark now, watched. */
export const darkness = createStore(false);

/** Show what is preferred, and keep it from now on. */
export function keepPreferences() {
  const show = (value) => {
    const root = document.documentElement;
    if (value.theme === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = value.theme;
    root.dataset.moving = value.moving ? "yes" : "no";
    darkness.set(isDark());
    root.dataset.dark = isDark() ? "yes" : "no";
    dispatchEvent(new Event("seehear:theme")); // canvases take their colours from it
  };
  show(prefs.get());
  prefs.subscribe((value) => {
    show(value);
    try { localStorage.setItem(KEY, JSON.stringify(value)); } catch { /* private windows may refuse; it works without */ }
  });
  calm.addEventListener("change", () => prefs.patch({ moving: !calm.matches }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(prefs.get()));
}

/** Whether the page is dark now. */
export function isDark() {
  const { theme } = prefs.get();
  return theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
}
