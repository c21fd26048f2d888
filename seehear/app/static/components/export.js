/** @file Taking along what was said: files in the formats of `seehear export`. */

import { withParams } from "../api.js";
import { html } from "../html.js";
import { session } from "../session.js";
import { Dialog } from "./dialog.js";

const FORMATS = [
  ["csv", "CSV", "a row for each segment, for spreadsheets"],
  ["parquet", "Parquet", "the same, for pandas, Polars and DuckDB"],
  ["jsonl", "JSON lines", "the same, an object for each segment"],
  ["m3u", "M3U", "a playlist for VLC and mpv"],
  ["edl", "EDL", "a cut list for editing programs"],
  ["label-studio", "Label Studio", "tasks with what was said as predictions"],
  ["fiftyone", "FiftyOne", "a data set to look at there"],
];

/** @param {{onClose: Function}} props */
export function ExportDialog({ onClose }) {
  const { by } = session.get();
  return html`<${Dialog} title="Export" onClose=${onClose} class="small"><p class="note">Clusters, names and confidences of
    all segments, as they are now.</p><ul class="exports">${FORMATS.map(([format, name, what]) => html`<li key=${format}><a
    href=${withParams("/api/export", { format, by })} download=""><b>${name}</b><span class="quiet">${what}</span></a></li>`)}</ul><//>`;
}
