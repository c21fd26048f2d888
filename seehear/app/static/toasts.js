/** @file Short messages that come and go; screen readers hear them too. */

import { createStore } from "./store.js";

/** The messages shown now: {key, text, bad, undo}. */
export const toasts = createStore([]);
let count = 0;

/**
 * Say something for a few seconds.
 * @param {string} text
 * @param {{bad?: boolean, undo?: string, seconds?: number}} options undo: the id of the edit that a button takes back
 */
export function toast(text, { bad = false, undo = "", seconds = bad ? 9 : 5 } = {}) {
  const key = ++count;
  // More than two at once hide what people look at.
  toasts.set((old) => [...old.slice(-1), { key, text, bad, undo }]);
  setTimeout(() => dismiss(key), seconds * 1000);
}

/** Take a message away. */
export const dismiss = (key) => toasts.set((old) => old.filter((one) => one.key !== key));
