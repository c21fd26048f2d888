/** @file A segment as a picture with what is known of it. */

import { clock, clusterName, fileName, percent } from "../format.js";
import { html, useLayoutEffect, useRef } from "../html.js";
import { useSegment } from "../segments.js";
import { useCluster } from "../session.js";
import { heard, hush, listen } from "../sound.js";
import { useStore } from "../store.js";
import { toneOf } from "./basics.js";
import { Icon } from "./icons.js";
import { Strip } from "./strip.js";

const HOVER_MS = 260;

let placing = false;

/** Whether the focus is being put where the grid has said: then the grid need not be told, and must not answer. */
export const placingFocus = () => placing;

/** A segment in words, for those who do not see it. */
function inWords(segment, score) {
  if (!segment) return "loading";
  return [
    segment.title, `at ${clock(segment.start)}`, clusterName({ id: segment.cluster, name: segment.name }),
    score === undefined ? `confidence ${percent(segment.confidence)}` : `score ${percent(score)}`,
    segment.confirmed && "confirmed", segment.rejected && "rejected",
    segment.doubtful && "may belong to no kind",
  ].filter(Boolean).join(", ");
}

/**
 * @param {{row: number, index: number, total: number, id: string, place: Object, selected: boolean, focused: boolean,
 *   showCluster: boolean, score?: number, onOpen: Function}} props place: its style; focused: it takes the Tab key
 */
export function Tile({ row, index, total, id, place, selected, focused, takesFocus, showCluster, score, onOpen }) {
  const segment = useSegment(row);
  const cluster = useCluster(segment?.cluster);
  const isHeard = useStore(heard, (h) => h === row);
  const element = useRef(null);
  useLayoutEffect(() => {
    if (!takesFocus || document.activeElement === element.current) return;
    placing = true;
    element.current.focus({ preventScroll: true });
    placing = false;
  }, [takesFocus]);
  const kind = `tile${segment?.rejected ? " rejected" : ""}${isHeard ? " heard" : ""}`;
  return html`<div class=${kind} role="option" id=${id} ref=${element} data-index=${index} data-row=${row}
    tabindex=${focused ? 0 : -1} aria-selected=${String(selected)} aria-setsize=${total} aria-posinset=${index + 1}
    aria-label=${inWords(segment, score)} style=${{ ...place, ...toneOf(cluster) }}
    onPointerEnter=${(event) => { if (event.pointerType === "mouse") listen(row, { after: HOVER_MS }); }}
    onPointerLeave=${hush}>
    <span class="picture"><${Strip} row=${row} sound=${segment ? !segment.has_video : false} />
      ${segment?.confirmed && html`<span class="badge good" title="confirmed"><${Icon} name="check" size=${13} /></span>`}
      ${segment?.rejected && html`<span class="badge bad" title="rejected"><${Icon} name="close" size=${13} /></span>`}
      ${segment?.doubtful && html`<span class="badge doubtful" title="may belong to no kind"><${Icon} name="help" size=${14} /></span>`}
      ${segment && !segment.has_audio && html`<span class="badge low" title="no sound"><${Icon} name="muted"
        size=${13} /></span>`}
      <span class="tick" aria-hidden="true"><${Icon} name="check" size=${13} /></span>
      <button type="button" class="open" tabindex="-1" aria-hidden="true" title="Play (Enter)"
        onClick=${(event) => { event.stopPropagation(); onOpen(row); }}><${Icon} name="play" size=${15} /></button>
      ${score !== undefined && html`<span class="score">${percent(score)}</span>`}
      <span class="time">${segment ? clock(segment.start) : ""}</span>
      <span class="line" style=${{ "--share": String(score ?? segment?.confidence ?? 0) }}></span></span>
    <span class="caption" title=${segment?.title}>${showCluster ? html`<span class="dot"></span>${segment ? clusterName(cluster ?? { id:
      segment.cluster, name: segment.name }) : ""}` : segment ? fileName(segment.title) : ""}</span></div>`;
}
