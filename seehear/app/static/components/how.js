/** @file How to look for what is alike: by sight, by sound, by both with a weight, or across. */

import { percent } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { session } from "../session.js";
import { useStore } from "../store.js";
import { Choice } from "./basics.js";

/** The members of a search request that say how. */
export const howBody = ({ how, weight, from }) => ({
  by: how, ...(how === "both" ? { sound_weight: weight } : {}), ...(how === "across" && from ? { across_from: from } : {}),
});

/**
 * @param {{how: string, weight: number, from: string, onChange: (part: Object) => void, streams?: Object}} props
 *   onChange is told {how}, {weight} or {from}; streams: what the query has, {video, audio}
 */
export function How({ how, weight, from, onChange, streams = { video: true, audio: true } }) {
  const across = useStore(session, (s) => s.run?.across);
  const [now, setNow] = useState(weight);
  useEffect(() => { setNow(weight); }, [weight]);
  const both = streams.video && streams.audio;
  const options = [
    ...(both ? [{ value: "both", text: "Both", hint: "like it by sight and by sound" }] : []),
    ...(streams.video ? [{ value: "sight", text: "Sight", hint: "looks like it" }] : []),
    ...(streams.audio ? [{ value: "sound", text: "Sound", hint: "sounds like it" }] : []),
    ...(across ? [{ value: "across", text: "Across", hint: "sounds as this looks, or looks as this sounds" }] : []),
  ];
  return html`<div class="how"><${Choice} label="Alike by" value=${how} options=${options} onChange=${(value) => onChange({ how: value })} />
    ${how === "both" && html`<label class="field weight"><span>sight</span><input type="range" min="0" max="100" step="5"
      aria-label="Weight of sound" aria-valuetext=${`${percent(now)} sound`} value=${Math.round(now * 100)}
      onInput=${(event) => setNow(Number(event.currentTarget.value) / 100)} onChange=${(event) => onChange({ weight: Number(event.currentTarget.value) / 100 })} /><span>sound</span></label>`}
    ${how === "across" && both && html`<${Choice} label="Direction" value=${from || "sight"} onChange=${(value) => onChange({ from: value })}
      options=${[{ value: "sight", text: "seen here, heard there" }, { value: "sound", text: "heard here, seen there" }]} />`}</div>`;
}
