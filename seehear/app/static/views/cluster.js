/** @file The segments of a cluster, or of all: look, choose, correct. */

import { call, LostError } from "../api.js";
import { clusterName, duration, plural, thousands } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { useKeys } from "../keys.js";
import { go, link, setParams } from "../route.js";
import { session } from "../session.js";
import { useStore } from "../store.js";
import { toast } from "../toasts.js";
import { MergeDialog, SegmentActions, SplitDialog, rename } from "../components/actions.js";
import { Choice, Confidence, EditableName, Empty, Pick, ShareRange, TextFilter, toneOf } from "../components/basics.js";
import { SegmentGrid, useSelection } from "../components/grid.js";
import { Icon } from "../components/icons.js";
import { openPlayer } from "./player.js";

const ORDERS = [["example", "best examples first"], ["surest", "surest first"], ["unsurest", "least sure first"], ["time", "by video and time"]];
const DOUBT_ORDERS = [...ORDERS, ["doubt", "most doubtful first"]];
const DOUBTS = [{ value: "", text: "Any doubt" }, { value: "yes", text: "Doubtful", hint: "may belong to no kind" }, { value: "no", text: "Not doubtful" }];
const NONE = [];

/**
 * The rows that a filter leaves, asked for again after every change of anybody; the old ones stay until then.
 * @param {Object} query
 */
export function useRows(query) {
  const { revision, by, generation, epoch } = useStore(session);
  const [found, setFound] = useState(null);
  const key = JSON.stringify([query, by]);
  useEffect(() => {
    const abort = new AbortController();
    call("/api/rows", { params: { by, ...query }, signal: abort.signal })
      .then((answer) => setFound((old) => (old?.key === key && same(old.rows, answer.rows) ? old : { key, rows: answer.rows })))
      .catch((error) => {
        if (error.name === "AbortError" || error instanceof LostError) return;
        setFound({ key, rows: NONE });
        toast(error.message, { bad: true });
      });
    return () => abort.abort();
  }, [key, revision, generation, epoch]);
  return found?.key === key ? found.rows : found ? found.rows : null;
}

const same = (a, b) => a.length === b.length && a.every((row, i) => row === b[i]);

/** One cluster (`id`), or all segments (null). */
export function ClusterView({ id, params }) {
  const { byId, run, clusters, doubtful: doubts } = useStore(session);
  const cluster = id === null ? null : byId.get(id) ?? null;
  const { order = "example", text = "", video = "", state = "", named = "", doubtful = "", min = "0", max = "1" } = params;
  const rows = useRows({
    cluster: id, order, text, video, state, doubtful, named: id === null ? named : "",
    min_confidence: Number(min) > 0 ? min : "", max_confidence: Number(max) < 1 ? max : "",
  });
  const selection = useSelection(rows ?? NONE);
  const [editing, setEditing] = useState(false);
  const [open, setOpen] = useState("");
  const editable = run && !run.read_only;
  useKeys(cluster ? {
    ...(editable ? { n: () => setEditing(true), m: () => setOpen("merge"), s: () => setOpen("split") } : {}),
    r: () => go("review", null, { cluster: id }),
    backspace: () => go("clusters"),
  } : {});

  if (clusters && id !== null && !cluster) {
    return html`<${Empty} title="This cluster is no longer there">It may have been merged into another, or the undo took it
      back. <a href=${link("clusters")}>All clusters</a><//>`;
  }
  const filtered = Boolean(text || video || state || named || doubtful || Number(min) > 0 || Number(max) < 1);
  return html`<div class="view-head cluster-head" style=${toneOf(cluster)}>
      <p class="crumbs"><a href=${link("clusters")}>Clusters</a></p>
      ${cluster ? html`<h1><span class="dot"></span><${EditableName} value=${cluster.name ?? ""}
        placeholder=${`cluster ${cluster.id}`} label="rename" editing=${editing} onEditing=${setEditing} disabled=${!editable}
        suggestions=${[...new Set((clusters ?? []).map((c) => c.name).filter(Boolean))]}
        onSave=${(value) => rename(cluster, value)} /></h1>
        <p class="facts-line"><span>${plural(cluster.size, "segment")}</span><span>${duration(cluster.seconds)}</span>
          <${Confidence} value=${cluster.confidence} /><span>${thousands(cluster.confirmed)} confirmed</span>
          ${cluster.doubtful > 0 && html`<a href=${link("cluster", id, { doubtful: "yes", order: "doubt" })}>${thousands(cluster.doubtful)} doubtful</a>`}</p>
        <p class="head-tools"><a class="button" href=${link("review", null, { cluster: id })}><${Icon} name="review" size=${17} />Review</a>
          ${editable && html`<button type="button" class="button" title="Split (s)" onClick=${() => setOpen("split")}><${Icon} name="split" size=${17} />Split</button>
          <button type="button" class="button" title="Merge (m)" onClick=${() => setOpen("merge")}><${Icon} name="merge" size=${17} />Merge</button>`}</p>`
        : html`<h1>All segments</h1><p class="facts-line"><span>${run ? plural(run.segments, "segment") : ""}</span></p>`}
    </div>
    <div class="tools" role="group" aria-label="Which segments, and in what order">
      <${TextFilter} label="Find in file names" value=${text} onChange=${(value) => setParams({ text: value })} />
      <${Choice} label="State" value=${state} onChange=${(value) => setParams({ state: value })} options=${[
        { value: "", text: "All" }, { value: "open", text: "Open" }, { value: "confirmed", text: "Confirmed" }, { value: "rejected", text: "Rejected" }]} />
      ${id === null && html`<${Choice} label="In named clusters or not" value=${named} onChange=${(value) => setParams({ named: value })}
        options=${[{ value: "", text: "Any name" }, { value: "yes", text: "Named" }, { value: "no", text: "Unnamed" }]} />`}
      ${doubts !== null && html`<${Choice} label="Doubtful or not" value=${doubtful} onChange=${(value) => setParams({ doubtful: value })} options=${DOUBTS} />`}
      <${ShareRange} label="Confidence" low=${Number(min)} high=${Number(max)}
        onChange=${(low, high) => setParams({ min: low > 0 ? low : "", max: high < 1 ? high : "" })} />
      <${Pick} label="Order" value=${order} options=${doubts === null ? ORDERS : DOUBT_ORDERS} onChange=${(value) => setParams({ order: value === "example" ? "" : value })} />
      ${video && html`<button type="button" class="chip" onClick=${() => setParams({ video: "" })}>one video only <${Icon} name="close" size=${14} /></button>`}
      <output class="quiet end">${rows === null ? "…" : filtered ? `${plural(rows.length, "segment")} shown` : ""}
        ${filtered && html` <button type="button" class="plain" onClick=${() => setParams({ text: "", video: "", state: "", named: "", doubtful: "", min: "", max: "" })}>Show all</button>`}</output>
    </div>
    ${doubtful === "yes" && html`<p class="note">Few others both look and sound like these: a voice-over, a menu
      among battles. They may belong to no kind. ${editable ? "Confirm or move those that do belong to one, and reject the others." : ""}</p>`}
    ${rows && html`<${SegmentGrid} rows=${rows} selection=${selection} showCluster=${id === null} label=${cluster
      ? `Segments of ${clusterName(cluster)}` : "All segments"} onOpen=${(row) => openPlayer(row, rows)} />`}
    ${rows && !rows.length && html`<${Empty} title=${filtered ? "No segment passes these filters" : "This cluster is empty"} />`}
    <${SegmentActions} subject=${() => selection.subject()} count=${selection.selected.size} cluster=${id}
      onClear=${() => selection.clear()} />
    ${open === "merge" && cluster && html`<${MergeDialog} clusters=${[cluster]} onClose=${(into) => { setOpen(""); if (into) go("cluster", into); }} />`}
    ${open === "split" && cluster && html`<${SplitDialog} cluster=${cluster} onClose=${() => setOpen("")}
      onSplit=${(answer) => { if (answer && !session.get().byId.has(id)) go("clusters", null, { sort: "name" }); }} />`}`;
}
