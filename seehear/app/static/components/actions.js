/** @file What can be done with chosen segments: confirm, move, put into a new cluster, reject. By buttons and keys. */

import { edit } from "../edits.js";
import { clusterName, plural, thousands } from "../format.js";
import { html, useRef, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { go } from "../route.js";
import { loadMany, segmentNow } from "../segments.js";
import { session } from "../session.js";
import { createStore, useStore } from "../store.js";
import { Dialog } from "./dialog.js";
import { Icon, IconButton } from "./icons.js";
import { ClusterPicker } from "./picker.js";

/** Say of segments that they belong to the clusters they are in; one edit for each cluster. */
export async function confirm(rows) {
  const groups = new Map();
  for (const segment of await loadMany(rows)) {
    if (!segment.rejected) groups.set(segment.cluster, [...(groups.get(segment.cluster) ?? []), segment.row]);
  }
  for (const [cluster, members] of groups) await edit("answer", { rows: members, cluster, yes: true });
}

/** Reject segments; where all of them are rejected already, take them back in. */
export async function rejectOrRestore(rows) {
  const segments = await loadMany(rows);
  const out = segments.filter((s) => s.rejected).length === segments.length;
  await edit(out ? "restore" : "reject", { rows });
}

/** Move segments to the choice of a picker. */
export async function moveTo(rows, choice) {
  if (choice.id) return edit("move", { rows, to: choice.id });
  return makeCluster(rows, choice.name);
}

/** A new cluster of segments, named if there is a name. */
export const makeCluster = (rows, name) => edit("move", { rows, new: true, ...(name ? { name } : {}) });

/** The question that `rename` asks: {cluster, other}, or null. */
const sameName = createStore(null);

/** Name a cluster; what has another one's name already is probably the same thing, so ask whether to merge the two. */
export function rename(cluster, text) {
  const wanted = text.toLocaleLowerCase();
  const other = session.get().clusters.find((c) => c.id !== cluster.id && c.name?.toLocaleLowerCase() === wanted);
  if (other && wanted) sameName.set({ cluster, other }); else edit("name", { cluster: cluster.id, text: text || null });
}

/** Asks what `rename` wants to know. */
export function SameNameDialog() {
  const asked = useStore(sameName);
  if (!asked) return null;
  const { cluster, other } = asked, close = () => sameName.set(null);
  const onMerge = () => { close(); edit("merge", { clusters: [other.id, cluster.id], into: other.id }); };
  return html`<${Dialog} title=${`There is ${other.name} already`} onClose=${close} class="small">
    <p>Two clusters cannot have one name. Do the ${plural(cluster.size, "segment")} of ${clusterName(cluster)} belong to the
    ${thousands(other.size)} of ${other.name}?</p><p class="buttons"><button type="button" class="main" autofocus onClick=${onMerge}>Merge the
    two</button><button type="button" class="button" onClick=${close}>No, leave them</button></p><//>`;
}

/**
 * The bar of actions, its dialogs and its keys.
 * @param {{subject: () => number[], count: number, onClear: Function, cluster?: string}} props subject: the rows an
 *   action is about; count: how many are selected (the bar shows from one on); cluster: where all of them are
 */
export function SegmentActions({ subject, count, onClear, cluster = null }) {
  const [open, setOpen] = useState(null); // {what, rows}
  const readOnly = useStore(session, (s) => s.run?.read_only);
  const ask = (what) => () => { const rows = subject(); if (rows.length) setOpen({ what, rows }); };
  const act = (change) => () => { const rows = subject(); if (rows.length) change(rows).then(() => onClear()); };
  useKeys(readOnly ? { f: () => alike(subject()) } : {
    y: act(confirm), v: ask("move"), "shift+n": ask("new"), x: act(rejectOrRestore), f: () => alike(subject()),
  });
  const close = () => setOpen(null);
  const finish = (done) => { close(); done.then(() => onClear()); };
  return html`${count > 0 && html`<div class="action-bar" role="toolbar" aria-label="What to do with the selection">
      <strong>${plural(count, "segment")}</strong>
      ${!readOnly && html`<${Action} icon="check" text="Confirm" keys="y" onClick=${act(confirm)} />
      <${Action} icon="move" text="Move" keys="v" onClick=${ask("move")} />
      <${Action} icon="plus" text="New cluster" keys="Shift N" onClick=${ask("new")} />
      <${Action} icon="close" text=${allRejected(subject()) ? "Restore" : "Reject"} keys="x"
        onClick=${act(rejectOrRestore)} />`}
      ${count === 1 && html`<${Action} icon="alike" text="More like it" keys="f" onClick=${() => alike(subject())} />`}
      <${IconButton} icon="close" label="Clear the selection" keys="Esc" onClick=${onClear} /></div>`}
    ${open?.what === "move" && html`<${ClusterPicker} title=${`Move ${plural(open.rows.length, "segment")} to`} allowNew
      without=${cluster ? [cluster] : []} onClose=${close} onPick=${(choice) => finish(moveTo(open.rows, choice))} />`}
    ${open?.what === "new" && html`<${NewCluster} count=${open.rows.length} onClose=${close}
      onMake=${(name) => finish(makeCluster(open.rows, name))} />`}`;
}

const allRejected = (rows) => rows.length > 0 && rows.slice(0, 200).every((row) => segmentNow(row)?.rejected);

function alike(rows) {
  if (!rows.length) return false;
  go("search", null, { row: rows[0] });
  return true;
}

function Action({ icon, text, keys, onClick }) {
  return html`<button type="button" class="action" title=${`${text} (${keys})`} onClick=${onClick}><${Icon} name=${icon}
    size=${17} /><span>${text}</span></button>`;
}

function NewCluster({ count, onMake, onClose }) {
  const field = useRef(null);
  const onSubmit = (event) => { event.preventDefault(); onMake(field.current.value.trim()); };
  return html`<${Dialog} title="A new cluster" onClose=${onClose} class="small"><form onSubmit=${onSubmit}>
    <label class="stacked">Name of the cluster of ${plural(count, "segment")} (may stay empty)
    <input ref=${field} autofocus maxlength="200" autocomplete="off" /></label>
    <p class="buttons"><button type="submit" class="main">Make it</button></p></form><//>`;
}

/** A dialog that asks into how many parts to split a cluster. */
export function SplitDialog({ cluster, onClose, onSplit }) {
  const [parts, setParts] = useState(2);
  const most = Math.min(8, cluster.size);
  const onSubmit = (event) => {
    event.preventDefault();
    edit("split", { cluster: cluster.id, parts }).then((answer) => onSplit?.(answer));
    onClose();
  };
  return html`<${Dialog} title=${`Split ${clusterName(cluster)}`} onClose=${onClose} class="small">
    <form onSubmit=${onSubmit}><p class="note">Its ${plural(cluster.size, "segment")} are grouped anew among
    themselves.${cluster.name ? " The part with most of what you confirmed, or else the largest, keeps the name." : ""}</p><label class="stacked">Into how many parts?
    <span class="with-number"><input type="range" min="2" max=${most} value=${parts} autofocus
      onInput=${(event) => setParts(Number(event.currentTarget.value))} /><output>${parts}</output></span></label>
    <p class="buttons"><button type="submit" class="main" disabled=${most < 2}>Split into ${parts}</button></p></form><//>`;
}

/** Merge clusters with one that a picker asks for; what is picked takes them in. */
export function MergeDialog({ clusters, onClose }) {
  const names = clusters.map(clusterName).join(", ");
  const onPick = (choice) => {
    edit("merge", { clusters: [choice.id, ...clusters.map((c) => c.id)], into: choice.id });
    onClose(choice.id);
  };
  return html`<${ClusterPicker} title=${`Merge ${names} into`} without=${clusters.length === 1 ? [clusters[0].id] : []}
    onPick=${(choice) => onPick(choice)} onClose=${() => onClose(null)}
    note="The cluster that you choose takes all in and keeps its name." />`;
}
