/** @file One voice for the whole page: the sound of the segment under the pointer or the focus. */

import { media } from "./api.js";
import { prefs } from "./prefs.js";
import { session } from "./session.js";
import { createStore } from "./store.js";
import { toast } from "./toasts.js";

/** The row that is heard now, or null. */
export const heard = createStore(null);

let element = null, timer = 0, told = false;

function voice() {
  if (!element) {
    element = new Audio();
    element.loop = true;
    element.addEventListener("error", () => heard.set(null));
  }
  return element;
}

/**
 * Play the sound of a segment until `hush`.
 * @param {number} row
 * @param {{after?: number, asked?: boolean}} options after: wait so many milliseconds, so that a pointer passing by makes
 *   no noise; asked: by a key, so it is heard even when muted
 */
export function listen(row, { after = 0, asked = false } = {}) {
  if (prefs.get().muted && !asked) return;
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const audio = voice();
    audio.volume = prefs.get().volume;
    audio.src = media.sound(row, session.get().generation);
    heard.set(row);
    try {
      await audio.play();
    } catch (error) {
      if (heard.get() === row) heard.set(null);
      // Browsers let a page make sound only after a click or a key: said once, since hovering is no such thing.
      if (error.name === "NotAllowedError" && !told) {
        told = true;
        toast("Click once anywhere, then pointing at a picture plays its sound.");
      }
    }
  }, after);
}

/** Be silent. */
export function hush() {
  clearTimeout(timer);
  heard.set(null);
  if (element) { element.pause(); element.removeAttribute("src"); }
}

/** Play a segment, or be silent if it is the one heard. */
export const toggleSound = (row) => (heard.get() === row ? hush() : listen(row, { asked: true }));
