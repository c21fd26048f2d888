/** @file A moving thumbnail: eight frames side by side in one picture, of which frames.js says which is shown. */

import { media } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { session } from "../session.js";
import { useStore } from "../store.js";

const FRAMES = 8;
const WAIT_MS = 70; // what scrolls past in less is not asked for

const loaded = new Set(); // addresses that are in the browser's cache: shown at once
const tall = new Map(); // address -> whether its frames are narrower than the place

/**
 * @param {{row: number|null, still?: boolean, sound?: boolean, wide?: number}} props still: it never moves; sound: the
 *   segment has no picture, so show what it sounds like; wide: width by height of the place
 */
export function Strip({ row, still = false, sound = false, wide = 4 / 3 }) {
  const generation = useStore(session, (s) => s.generation);
  const [failed, setFailed] = useState(false);
  const source = row === null ? "" : sound || failed ? media.picture(row, generation) : media.strip(row, generation);
  const [ready, setReady] = useState(loaded.has(source));
  const [, again] = useState(0);
  const broken = useRef("");
  useEffect(() => { setFailed(false); }, [row, generation]);
  useEffect(() => {
    if (loaded.has(source)) { setReady(true); return undefined; }
    setReady(false);
    const timer = setTimeout(() => setReady(true), WAIT_MS);
    return () => clearTimeout(timer);
  }, [source]);
  if (row === null) return html`<span class="strip"></span>`;
  if (broken.current === source) return html`<span class="strip gone">no picture</span>`;
  const onLoad = (event) => {
    loaded.add(source);
    const { naturalWidth, naturalHeight } = event.currentTarget;
    tall.set(source, naturalWidth / FRAMES / naturalHeight < wide - 0.01);
    event.currentTarget.classList.add("there");
    again((n) => n + 1);
  };
  const onError = () => {
    if (sound || failed) { broken.current = source; again((n) => n + 1); } else setFailed(true);
  };
  const kind = sound || failed ? "heard" : `${tall.get(source) ? "tall" : ""} ${still ? "" : "moves"}`;
  return html`<span class="strip">${ready && html`<img key=${source} src=${source} alt="" draggable=${false}
    decoding="async" class=${`${kind} ${loaded.has(source) ? "there" : ""}`} onLoad=${onLoad} onError=${onError} />`}
  </span>`;
}
