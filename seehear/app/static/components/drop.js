/** @file A file dropped anywhere on the page is searched for. It stays in this page's memory and goes to our server only. */

import { html, useEffect, useRef, useState } from "../html.js";
import { go } from "../route.js";
import { createStore } from "../store.js";

/** The file searched for: {file, url, kind: "video"|"audio"|"image"}, or null. */
export const dropped = createStore(null);

const SOUNDS = /\.(wav|mp3|m4a|ogg|oga|flac|aac|opus|aiff?|wma|amr)$/i;
const PICTURES = /\.(jpe?g|png|webp|bmp|gif|tiff?)$/i;

/** Search for a file. */
export function takeFile(file) {
  if (!file) return;
  const old = dropped.get();
  if (old) URL.revokeObjectURL(old.url);
  const kind = file.type.startsWith("audio/") || SOUNDS.test(file.name) ? "audio"
    : file.type.startsWith("image/") || PICTURES.test(file.name) ? "image" : "video";
  dropped.set({ file, url: URL.createObjectURL(file), kind });
  go("search", null, { file: file.name, how: { audio: "sound", image: "sight", video: "both" }[kind] });
}

/** Shows where to drop while a file is dragged over the page. */
export function DropAnywhere() {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  useEffect(() => {
    const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const onEnter = (event) => { if (files(event)) { depth.current += 1; setOver(true); } };
    const onLeave = (event) => { if (files(event) && --depth.current <= 0) { depth.current = 0; setOver(false); } };
    const onOver = (event) => { if (files(event)) event.preventDefault(); };
    const onDrop = (event) => {
      if (!files(event)) return;
      event.preventDefault(); // else the browser would leave the page for the file
      depth.current = 0;
      setOver(false);
      takeFile(event.dataTransfer.files[0]);
    };
    const all = { dragenter: onEnter, dragleave: onLeave, dragover: onOver, drop: onDrop };
    for (const [name, handler] of Object.entries(all)) addEventListener(name, handler);
    return () => { for (const [name, handler] of Object.entries(all)) removeEventListener(name, handler); };
  }, []);
  return over && html`<div class="drop-over"><p>Drop it to find what looks or sounds like it</p></div>`;
}
