/** @file All clusters as cards: see them move, hear them, name them. */

import { clusterName, duration, percent, plural, thousands } from "../format.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { go, link, setParams } from "../route.js";
import { session } from "../session.js";
import { heard, hush, listen, toggleSound } from "../sound.js";
import { useStore } from "../store.js";
import { MergeDialog, SplitDialog, rename } from "../components/actions.js";
import { Choice, Confidence, EditableName, Empty, Pick, TextFilter, toneOf } from "../components/basics.js";
import { ExportDialog } from "../components/export.js";
import { Icon, IconButton } from "../components/icons.js";
import { Strip } from "../components/strip.js";

const ORDERS = [["size", "largest first"], ["confidence", "surest first"], ["unsure", "least sure first"],
  ["name", "by name"], ["open", "most unconfirmed first"]];

const COMPARE = {
  size: (a, b) => b.size - a.size,
  confidence: (a, b) => b.confidence - a.confidence,
  unsure: (a, b) => a.confidence - b.confidence,
  name: (a, b) => Number(!a.name) - Number(!b.name) || clusterName(a).localeCompare(clusterName(b), "en", { numeric: true }),
  open: (a, b) => (b.size - b.confirmed) - (a.size - a.confirmed),
};

/** The first view. */
export function ClustersView({ params }) {
  const { clusters, conflicts, rejected, doubtful, run } = useStore(session);
  const { sort = "size", named = "", text = "" } = params;
  const shown = useMemo(() => (clusters ?? [])
    .filter((c) => (!named || Boolean(c.name) === (named === "yes")) && clusterName(c).toLowerCase().includes(text.toLowerCase()))
    .sort(COMPARE[sort] ?? COMPARE.size), [clusters, sort, named, text]);
  const [chosen, setChosen] = useState(() => new Set());
  const [editing, setEditing] = useState(null);
  const [open, setOpen] = useState(null); // {what, clusters}
  const [exporting, setExporting] = useState(false);
  const [focus, setFocus] = useState(0);
  const list = useRef(null);
  const at = Math.min(focus, shown.length - 1);

  useEffect(() => {
    const ids = new Set((clusters ?? []).map((c) => c.id));
    setChosen((old) => (clusters && [...old].some((id) => !ids.has(id)) ? new Set([...old].filter((id) => ids.has(id))) : old));
  }, [clusters]);

  const cardAt = () => document.activeElement?.closest?.("[data-card]");
  const inList = () => list.current?.contains(document.activeElement) || document.activeElement === document.body;
  const focusOn = (index) => {
    const next = Math.max(0, Math.min(shown.length - 1, index));
    setFocus(next);
    list.current?.querySelectorAll("[data-card] .card-open")[next]?.focus();
  };
  const step = (by) => () => {
    if (!shown.length || !inList()) return false;
    focusOn(cardAt() ? at + by() : at);
    return true;
  };
  const columns = () => getComputedStyle(list.current).gridTemplateColumns.split(" ").length;
  const current = (act) => () => (shown[at] && inList() ? act(shown[at]) : false);
  const toggle = (id) => setChosen((old) => { const next = new Set(old); if (!next.delete(id)) next.add(id); return next; });
  const subject = () => (chosen.size ? shown.filter((c) => chosen.has(c.id)) : shown[at] ? [shown[at]] : []);
  const merge = () => { const found = subject(); if (found.length) setOpen({ what: "merge", clusters: found }); };
  const listenTo = (cluster) => { if (cluster.exemplars.length) toggleSound(cluster.exemplars[0]); };
  const editable = run && !run.read_only;
  useKeys({
    arrowleft: step(() => -1), arrowright: step(() => 1), arrowup: step(() => -columns()), arrowdown: step(() => columns()),
    home: step(() => -shown.length), end: step(() => shown.length),
    enter: current((c) => go("cluster", c.id)),
    space: current(listenTo), l: current(listenTo), r: current((c) => go("review", null, { cluster: c.id })),
    ...(editable ? {
      n: current((c) => setEditing(c.id)), m: merge, s: current((c) => setOpen({ what: "split", clusters: [c] })),
      "shift+space": current((c) => toggle(c.id)),
    } : {}),
    escape: () => { if (!chosen.size) return false; setChosen(new Set()); return true; },
  });

  if (!clusters) return html`<${Skeleton} />`;
  const names = [...new Set(clusters.map((c) => c.name).filter(Boolean))];
  const done = clusters.filter((c) => c.name).length;
  return html`<div class="view-head with-tools"><h1>Clusters</h1><button type="button" class="button" onClick=${() => setExporting(true)}><${Icon} name="export" size=${17} />Export</button>
      <p class="quiet"><a href=${link("segments")}>${plural(run.segments, "segment")}</a> of ${plural(run.videos, "video")}, ${duration(run.seconds)}${" · "}
      ${done} of ${clusters.length} named${rejected > 0 && html` · <a href=${link("segments", null, { state: "rejected" })}>${thousands(rejected)} rejected</a>`}${doubtful > 0 && html` · <a
        href=${link("segments", null, { doubtful: "yes", order: "doubt" })}>${plural(doubtful, "segment")} may belong to no kind</a>`}</p></div>
    ${conflicts.length > 0 && html`<details class="notice conflicts"><summary>${plural(conflicts.length, "name")} could not
      be carried over without doubt</summary><ul>${conflicts.map((c) => html`<li key=${c.text}>${c.text}</li>`)}</ul></details>`}
    <div class="tools" role="group" aria-label="Which clusters, and in what order">
      <${TextFilter} label="Find a cluster" value=${text} onChange=${(value) => setParams({ text: value })} />
      <${Choice} label="Named or not" value=${named} onChange=${(value) => setParams({ named: value })} options=${[
        { value: "", text: "All" }, { value: "yes", text: "Named" }, { value: "no", text: "Unnamed" }]} />
      <${Pick} label="Order" value=${sort} options=${ORDERS} onChange=${(value) => setParams({ sort: value === "size" ? "" : value })} />
      ${chosen.size > 0 && html`<span class="chosen-count">${plural(chosen.size, "cluster")} chosen
        <button type="button" class="action" onClick=${merge}><${Icon} name="merge" size=${17} /><span>Merge</span></button>
        <${IconButton} icon="close" label="Choose none" keys="Esc" onClick=${() => setChosen(new Set())} /></span>`}
      <output class="quiet end">${shown.length < clusters.length ? `${shown.length} of ${plural(clusters.length, "cluster")}` : ""}</output>
    </div>
    <ul class="cards" ref=${list}>${shown.map((cluster, index) => html`<${Card} key=${cluster.id} cluster=${cluster}
      focused=${index === at} chosen=${chosen.has(cluster.id)} onChoose=${editable ? toggle : null}
      editing=${editing === cluster.id} onEditing=${(on) => setEditing(on ? cluster.id : null)} editable=${editable}
      onFocus=${() => setFocus(index)} names=${names} onSplit=${() => setOpen({ what: "split", clusters: [cluster] })}
      onMerge=${() => setOpen({ what: "merge", clusters: [cluster] })} />`)}</ul>
    ${!shown.length && html`<${Empty} title="No cluster is like that">Take away a filter to see more.<//>`}
    ${open?.what === "merge" && html`<${MergeDialog} clusters=${open.clusters} onClose=${(done_) => { setOpen(null); if (done_) setChosen(new Set()); }} />`}
    ${exporting && html`<${ExportDialog} onClose=${() => setExporting(false)} />`}
    ${open?.what === "split" && html`<${SplitDialog} cluster=${open.clusters[0]} onClose=${() => setOpen(null)} />`}`;
}

function Card({ cluster, focused, chosen, onChoose, editing, onEditing, editable, onFocus, names, onSplit, onMerge }) {
  const playing = useStore(heard, (h) => h !== null && cluster.exemplars.includes(h));
  const share = cluster.size ? cluster.confirmed / cluster.size : 0;
  const tiles = cluster.exemplars.slice(0, 6);
  return html`<li class=${`card${chosen ? " chosen" : ""}${playing ? " heard" : ""}`} data-card=${cluster.id}
    style=${toneOf(cluster)} onFocusIn=${onFocus}>
    <a class="card-open" href=${link("cluster", cluster.id)} tabindex=${focused ? 0 : -1}
      aria-label=${`Open ${clusterName(cluster)}, ${plural(cluster.size, "segment")}, mean confidence ${percent(cluster.confidence)}`}>
      <span class="mosaic">${tiles.map((row) => html`<span key=${row} class="cell" onPointerEnter=${(event) => {
        if (event.pointerType === "mouse") listen(row, { after: 280 });
      }} onPointerLeave=${hush}><${Strip} row=${row} wide=${4 / 3} /></span>`)}
      ${Array.from({ length: Math.max(0, 6 - tiles.length) }, (_, i) => html`<span key=${`empty${i}`} class="cell" />`)}</span></a>
    <div class="card-line"><span class="dot"></span>
      <${EditableName} value=${cluster.name ?? ""} placeholder=${`cluster ${cluster.id}`} label="rename" editing=${editing}
        disabled=${!editable} onEditing=${onEditing} suggestions=${names}
        onSave=${(text) => rename(cluster, text)} />
      ${editable && html`<span class="card-tools"><${IconButton} icon="split" label=${`Split ${clusterName(cluster)}`} onClick=${onSplit} />
        <${IconButton} icon="merge" label=${`Merge ${clusterName(cluster)}`} onClick=${onMerge} /></span>
      <label class="choose"><input type="checkbox" checked=${chosen} onChange=${() => onChoose(cluster.id)}
        aria-label=${`Choose ${clusterName(cluster)}`} /></label>`}</div>
    <div class="card-facts"><span>${thousands(cluster.size)}</span><${Confidence} value=${cluster.confidence} />
      <span class="end">${share > 0 ? `${thousands(cluster.confirmed)} confirmed` : duration(cluster.seconds)}</span></div></li>`;
}

/** The shape of what is coming, so that nothing jumps when it does. */
function Skeleton() {
  return html`<div class="view-head"><h1>Clusters</h1><p class="quiet">Loading …</p></div><ul class="cards"
    aria-hidden="true">${Array.from({ length: 8 }, (_, i) => html`<li class="card skeleton" key=${i}><span class="mosaic" /></li>`)}</ul>`;
}
