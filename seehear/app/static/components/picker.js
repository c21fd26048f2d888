/** @file A searchable list of clusters: where to move, what to merge with, which other one it is. */

import { clusterName, plural } from "../format.js";
import { html, useId, useMemo, useState } from "../html.js";
import { session } from "../session.js";
import { useStore } from "../store.js";
import { toneOf } from "./basics.js";
import { Dialog } from "./dialog.js";
import { Strip } from "./strip.js";

/**
 * @param {{title: string, without?: string[], allowNew?: boolean, onPick: (choice: {id: string} | {name: string}) => void,
 *   onClose: Function, note?: string}} props without: ids that are not offered; allowNew: text that is nobody's name
 *   makes a new cluster of that name
 */
export function ClusterPicker({ title, without = [], allowNew = false, onPick, onClose, note }) {
  const clusters = useStore(session, (s) => s.clusters) ?? [];
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useId();
  const choices = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    const found = clusters
      .filter((c) => !without.includes(c.id) && clusterName(c).toLowerCase().includes(wanted))
      .sort((a, b) => Number(Boolean(b.name)) - Number(Boolean(a.name)) || clusterName(a).localeCompare(clusterName(b),
        "en", { numeric: true }))
      .map((cluster) => ({ id: cluster.id, cluster }));
    const taken = clusters.some((c) => c.name?.toLowerCase() === wanted);
    return allowNew && !taken ? [...found, { name: text.trim() }] : found;
  }, [clusters, text, without.join(), allowNew]);
  const chosen = Math.min(at, choices.length - 1);
  const onKeyDown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 6, PageUp: -6 }[event.key];
    if (step) {
      event.preventDefault();
      const next = Math.max(0, Math.min(choices.length - 1, chosen + step));
      setAt(next);
      document.getElementById(`${list}-${next}`)?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && choices[chosen]) {
      event.preventDefault();
      onPick(choices[chosen]);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose} class="picker">
    ${note && html`<p class="note">${note}</p>`}
    <input type="search" role="combobox" aria-expanded="true" aria-controls=${list} aria-label="Find a cluster" autofocus
      aria-activedescendant=${choices.length ? `${list}-${chosen}` : undefined} placeholder="Type a name" value=${text}
      autocomplete="off" onInput=${(event) => { setText(event.currentTarget.value); setAt(0); }} onKeyDown=${onKeyDown} />
    <ul role="listbox" id=${list} aria-label="Clusters">${choices.map((choice, index) => html`<li role="option"
      key=${choice.id ?? "new"} id=${`${list}-${index}`} aria-selected=${String(index === chosen)}
      style=${toneOf(choice.cluster)} onClick=${() => onPick(choice)} onPointerMove=${() => setAt(index)}>
      ${choice.cluster
        ? html`<span class="mini"><${Strip} row=${choice.cluster.exemplars[0] ?? null} still /></span><span class="dot"></span>
          <span class="grow">${clusterName(choice.cluster)}</span><span class="quiet">${plural(choice.cluster.size,
            "segment")}</span>`
        : html`<span class="mini plus">+</span><span class="grow">${choice.name ? html`New cluster
          “<b>${choice.name}</b>”` : "New cluster without a name"}</span>`}</li>`)}
    </ul>${!choices.length && html`<p class="quiet">No cluster is called that.</p>`}<//>`;
}
