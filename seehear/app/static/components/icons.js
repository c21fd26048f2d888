/** @file Icons: strokes on a field of 20 by 20, in the colour of the text beside them. */

import { html } from "../html.js";

const PATHS = {
  clusters: "M3 3h6v6H3z M11 3h6v6h-6z M3 11h6v6H3z M11 11h6v6h-6z",
  map: "M5 6h.01 M9 4h.01 M8 9h.01 M13 8h.01 M16 5h.01 M5 13h.01 M9 15h.01 M14 12h.01 M12 16h.01 M16 16h.01",
  review: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15z M6.7 10.2l2.3 2.3 4.3-4.6",
  search: "M8.8 3.2a5.6 5.6 0 1 0 0 11.2 5.6 5.6 0 0 0 0-11.2z M13 13l4 4",
  videos: "M2.5 4.5h15v11h-15z M6 4.5v11 M14 4.5v11 M2.5 8.2H6 M2.5 11.8H6 M14 8.2h3.5 M14 11.8h3.5",
  history: "M3.2 8.2A7 7 0 1 1 3 10.4 M3 4.2v4h4 M10 6.4v3.9l2.7 1.7",
  all: "M3 4.5h14 M3 8.2h14 M3 11.8h14 M3 15.5h14",
  undo: "M7 4L3.5 7.5 7 11 M3.5 7.5h8a4.5 4.5 0 0 1 0 9H8",
  redo: "M13 4l3.5 3.5L13 11 M16.5 7.5h-8a4.5 4.5 0 0 0 0 9H12",
  sound: "M3 8v4h2.8L9.5 15V5L5.8 8z M12.5 7.5a3.4 3.4 0 0 1 0 5 M14.8 5.2a6.6 6.6 0 0 1 0 9.6",
  muted: "M3 8v4h2.8L9.5 15V5L5.8 8z M13 8l4 4 M17 8l-4 4",
  light: "M10 6.6a3.4 3.4 0 1 0 0 6.8 3.4 3.4 0 0 0 0-6.8z M10 2v1.6 M10 16.4V18 M2 10h1.6 M16.4 10H18 M4.3 4.3l1.2 1.2 M14.5 14.5l1.2 1.2 M4.3 15.7l1.2-1.2 M14.5 5.5l1.2-1.2",
  dark: "M16.5 11.6A6.8 6.8 0 0 1 8.4 3.5a6.8 6.8 0 1 0 8.1 8.1z",
  auto: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14z M10 3v14 M10 5.5h4.4 M10 8.5h6.6 M10 11.5h6.6 M10 14.5h4.4",
  help: "M7.3 7.4a2.8 2.8 0 1 1 3.9 2.6c-.8.4-1.2.9-1.2 1.8 M10 14.9h.01",
  play: "M6.5 4.2l9 5.8-9 5.8z",
  pause: "M6.8 4.5v11 M13.2 4.5v11",
  close: "M5 5l10 10 M15 5L5 15",
  pencil: "M4 16l.7-3.2L13.2 4.3a1.4 1.4 0 0 1 2 0l.5.5a1.4 1.4 0 0 1 0 2L7.2 15.3z",
  merge: "M4 3.5v3c0 2.5 6 2.5 6 5v5 M16 3.5v3c0 2.5-6 2.5-6 5 M7.6 14.2L10 16.6l2.4-2.4",
  split: "M10 3.5v4.3 M10 7.8c0 2.6-6 2.6-6 5.2v3 M10 7.8c0 2.6 6 2.6 6 5.2v3 M1.8 13.9L4 16.1l2.2-2.2 M13.8 13.9l2.2 2.2 2.2-2.2",
  loop: "M14 3l2.5 2.5L14 8 M3.5 9.5v-1a3 3 0 0 1 3-3h10 M6 17l-2.5-2.5L6 12 M16.5 10.5v1a3 3 0 0 1-3 3h-10",
  back: "M12 5.5L7.5 10l4.5 4.5 M5 5.5v9",
  on: "M8 5.5l4.5 4.5L8 14.5 M15 5.5v9",
  left: "M12 4.5L6.5 10l5.5 5.5",
  right: "M8 4.5l5.5 5.5L8 15.5",
  lasso: "M10 3.5c4 0 7 2 7 4.6s-3 4.7-7 4.7-7-2-7-4.7 3-4.6 7-4.6z M6.4 12.2c-1.6 1.2-1 3.2.8 3 1.9-.2 1.6 1.6-.2 1.9",
  box: "M3.5 3.5h2 M9 3.5h2 M14.5 3.5h2v2 M16.5 9v2 M16.5 14.5v2h-2 M11 16.5H9 M5.5 16.5h-2v-2 M3.5 11V9 M3.5 5.5v-2",
  hand: "M10 3v14 M3 10h14 M7.8 5.2L10 3l2.2 2.2 M7.8 14.8L10 17l2.2-2.2 M5.2 7.8L3 10l2.2 2.2 M14.8 7.8L17 10l-2.2 2.2",
  plus: "M10 4v12 M4 10h12",
  minus: "M4 10h12",
  whole: "M3.5 7.5v-4h4 M12.5 3.5h4v4 M16.5 12.5v4h-4 M7.5 16.5h-4v-4",
  check: "M4.2 10.6l3.6 3.7 8-8.6",
  move: "M3.5 10h12 M11 5.5l4.5 4.5-4.5 4.5",
  drop: "M10 13V4 M6.4 7.4L10 3.8l3.6 3.6 M3.5 12.5v4h13v-4",
  export: "M10 3.5v9 M6.4 9L10 12.6 13.6 9 M3.5 12.5v4h13v-4",
  more: "M4.5 10h.01 M10 10h.01 M15.5 10h.01",
  restore: "M4 8.5h8a4 4 0 0 1 0 8H8 M7.2 5L3.7 8.5 7.2 12",
  alike: "M7.2 4.2a4.8 4.8 0 1 0 0 9.6 4.8 4.8 0 0 0 0-9.6z M12.8 6.2a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6z",
};

/**
 * An icon; it says nothing by itself, so what it stands in needs a name.
 * @param {{name: string, size?: number}} props
 */
export function Icon({ name, size = 20 }) {
  const dots = name === "map" || name === "more";
  return html`<svg class=${`icon${dots ? " dots" : ""}${name === "play" ? " full" : ""}`} viewBox="0 0 20 20"
    width=${size} height=${size} aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}

/**
 * A button that shows an icon only.
 * @param {{icon: string, label: string, onClick: Function, pressed?: boolean, keys?: string}} props label is its name,
 *   and with `keys` the hint
 */
export function IconButton({ icon, label, keys, pressed, class: kind = "", ...rest }) {
  return html`<button type="button" class=${`icon-button ${kind}`} aria-label=${label}
    title=${keys ? `${label} (${keys})` : label} aria-pressed=${pressed === undefined ? undefined : String(pressed)}
    ...${rest}><${Icon} name=${icon} /></button>`;
}
