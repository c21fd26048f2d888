/** @file What the page knows of the run: its facts, its clusters, and whether others have changed something. */

import { ApiError, LostError, call, connection } from "./api.js";
import { route } from "./route.js";
import { createStore, useStore } from "./store.js";

const POLL_MS = 2000;

/**
 * run: facts of the run or null; by: the labelling looked at; clusters, conflicts, undo, redo, rejected, doubtful:
 * as the server lists them; revision, generation; epoch: grows whenever a lost server is found again; outdated: the index has been rebuilt since the page was loaded; failed: text.
 */
export const session = createStore({
  run: null, by: "both", clusters: null, byId: new Map(), conflicts: [], rejected: 0, doubtful: null, undo: null, redo: null,
  revision: 0, generation: "", outdated: false, failed: "", epoch: 0,
});

/** The clusters by id, watched. */
export const useCluster = (id) => useStore(session, (s) => s.byId.get(id) ?? null);

/** The labelling asked for by the address, if the run has it. */
function wantedLabelling(run) {
  const { by } = route.get().params;
  return run.labellings.includes(by) ? by : run.by ?? run.labellings[0];
}

/** Load the run and its clusters, then look for changes as long as the page is open. */
export async function start() {
  await begin();
  route.subscribe(() => {
    const { run, by } = session.get();
    if (run && wantedLabelling(run) !== by) {
      session.patch({ by: wantedLabelling(run), clusters: null, byId: new Map() });
      refresh();
    }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  const again = async () => {
    if (!document.hidden) await look();
    setTimeout(again, POLL_MS);
  };
  setTimeout(again, POLL_MS);
}

async function begin() {
  try {
    const run = await call("/api/run");
    session.patch({ run, by: wantedLabelling(run), generation: run.generation, failed: "" });
    await refresh();
  } catch (error) {
    session.patch({ failed: error.message });
  }
}

let asked = 0;

/** Load the clusters anew; the last request wins, whatever order the answers come in. */
export async function refresh() {
  const ticket = ++asked;
  const { by } = session.get();
  try {
    const found = await call("/api/clusters", { params: { by } });
    if (ticket !== asked) return;
    // Before the first answer nothing is on the page that belongs to another generation.
    const outdated = session.get().clusters !== null && found.generation !== session.get().generation;
    session.patch({
      ...(outdated ? {} : { ...found, byId: new Map(found.clusters.map((c) => [c.id, c])) }),
      outdated: outdated || session.get().outdated, failed: "",
    });
  } catch (error) {
    if (!(error instanceof LostError) && ticket === asked) session.patch({ failed: error.message });
  }
}

let looking = false;

/** Ask whether anybody changed anything; also how a server that was lost is found again. */
export async function look() {
  if (looking) return;
  looking = true;
  try {
    const wasLost = connection.get().lost || connection.get().token;
    const { revision, generation } = await call("/api/changes", { params: { by: session.get().by } });
    const now = session.get();
    if (now.run === null) await begin();
    else if (generation !== now.generation) session.patch({ outdated: true });
    else if (revision !== now.revision || wasLost) await refresh();
    if (wasLost) {
      session.patch({ epoch: session.get().epoch + 1 }); // views ask again for what they did not get
      dispatchEvent(new Event("seehear:found"));
    }
  } catch (error) {
    if (!(error instanceof LostError) && !(error instanceof ApiError)) throw error;
  } finally {
    looking = false;
  }
}
