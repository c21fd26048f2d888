/** @file Details of segments, asked for in batches as they come into sight, and kept. */

import { call } from "./api.js";
import { useEffect, useReducer } from "./html.js";
import { session } from "./session.js";

const BATCH = 200; // the server takes up to 500 at once; smaller answers come sooner
const KEEP = 20000;

const known = new Map(); // row -> {revision, segment}
const wanted = new Set();
const watchers = new Map(); // row -> Set of functions
let timer = 0, inFlight = 0, place = "";

/** What is known belongs to one labelling of one generation. */
function checkPlace() {
  const { by, generation } = session.get();
  const now = `${by} ${generation}`;
  if (now === place) return;
  place = now;
  known.clear();
}

let seen = 0;
session.subscribe(({ revision }) => {
  checkPlace();
  if (revision === seen) return;
  seen = revision;
  for (const row of watchers.keys()) want(row); // those in sight now; the others when they come into sight
});

function want(row) {
  wanted.add(row);
  if (!timer) timer = setTimeout(ask, 12); // what is drawn together is asked for together
}

async function ask() {
  timer = 0;
  if (inFlight >= 2 || !wanted.size) return;
  checkPlace();
  const { by, generation, revision } = session.get();
  // Those that came last are in sight; those that have left it since need not be asked for at all.
  const rows = [...wanted].reverse().filter((row) => watchers.has(row)).slice(0, BATCH);
  if (rows.length === BATCH) for (const row of rows) wanted.delete(row); else wanted.clear();
  if (!rows.length) return;
  inFlight += 1;
  try {
    const { segments } = await call("/api/segments", { params: { by, rows: rows.join(",") } });
    const now = session.get();
    if (now.by === by && now.generation === generation) {
      if (known.size > KEEP) known.clear();
      for (const segment of segments) {
        known.set(segment.row, { revision, segment });
        for (const watcher of watchers.get(segment.row) ?? []) watcher();
      }
    }
  } catch {
    for (const row of rows) wanted.add(row); // the banner says that the server is lost; asked again when it is back
    setTimeout(() => { if (!timer && wanted.size) ask(); }, 3000);
    return;
  } finally {
    inFlight -= 1;
  }
  if (wanted.size && !timer) timer = setTimeout(ask, 0);
}

/** Details of a segment if they are known, be they old. */
export const segmentNow = (row) => known.get(row)?.segment ?? null;

/**
 * Details of a segment, null until they have come: {row, video, title, start, end, cluster, name, confidence,
 * confirmed, rejected, doubt, doubtful, has_video, has_audio}.
 * @param {number|null} row
 */
export function useSegment(row) {
  const [, again] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    if (row === null) return undefined;
    const set = watchers.get(row) ?? new Set();
    watchers.set(row, set.add(again));
    const have = known.get(row);
    if (!have || have.revision !== session.get().revision) want(row);
    else again();
    return () => { set.delete(again); if (!set.size) watchers.delete(row); };
  }, [row]);
  return row === null ? null : segmentNow(row);
}

/** Details of one segment, asked for at once. */
export async function loadSegment(row) {
  const { by } = session.get();
  const { segments } = await call("/api/segments", { params: { by, rows: row } });
  return segments[0] ?? null;
}

/**
 * Details of many segments, in the order given; what is known already is not asked for again.
 * @param {number[]} rows
 */
export async function loadMany(rows) {
  const { by, revision } = session.get();
  const fresh = (row) => known.get(row)?.revision === revision;
  const missing = rows.filter((row) => !fresh(row));
  const found = new Map();
  for (let first = 0; first < missing.length; first += 500) {
    const part = missing.slice(first, first + 500);
    const { segments } = await call("/api/segments", { params: { by, rows: part.join(",") } });
    for (const segment of segments) found.set(segment.row, segment);
  }
  return rows.map((row) => found.get(row) ?? segmentNow(row)).filter(Boolean);
}
