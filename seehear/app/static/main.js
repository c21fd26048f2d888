/** @file The page: which view stands in it. */

import { moveFrames } from "./frames.js";
import { html, render, useEffect } from "./html.js";
import { keepPreferences } from "./prefs.js";
import { route } from "./route.js";
import { session, start } from "./session.js";
import { hush } from "./sound.js";
import { useStore } from "./store.js";
import { send } from "./edits.js";
import { SameNameDialog } from "./components/actions.js";
import { DropAnywhere } from "./components/drop.js";
import { Banners, Toasts, TopBar } from "./components/shell.js";
import { ClusterView } from "./views/cluster.js";
import { ClustersView } from "./views/clusters.js";
import { HistoryView } from "./views/history.js";
import { MapView } from "./views/map.js";
import { PlayerDialog } from "./views/player.js";
import { ReviewView } from "./views/review.js";
import { SearchView } from "./views/search.js";
import { VideosView } from "./views/videos.js";

const TITLES = { clusters: "Clusters", segments: "All segments", map: "Map", review: "Review", search: "Search", videos: "Videos", history: "History" };

function View({ view, argument, params }) {
  switch (view) {
    case "cluster": return html`<${ClusterView} key=${argument} id=${argument} params=${params} />`;
    case "segments": return html`<${ClusterView} key="all" id=${null} params=${params} />`;
    case "map": return html`<${MapView} params=${params} />`;
    case "review": return html`<${ReviewView} params=${params} />`;
    case "search": return html`<${SearchView} params=${params} />`;
    case "videos": return html`<${VideosView} params=${params} />`;
    case "history": return html`<${HistoryView} />`;
    default: return html`<${ClustersView} params=${params} />`;
  }
}

function App() {
  const { view, argument, params } = useStore(route);
  const run = useStore(session, (s) => s.run);
  const named = useStore(session, (s) => (view === "cluster" ? s.byId.get(argument)?.name || `cluster ${argument}` : ""));
  const place = `${view}/${argument}`;
  useEffect(() => {
    document.title = `${named || TITLES[view] || "Clusters"} · ${run?.name ?? "seehear"}`;
  }, [view, named, run]);
  useEffect(() => { hush(); }, [place]);
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the content</a>
    <${TopBar} view=${view} /><${Banners} />
    <main id="main" tabindex="-1" class=${`view-${view}`}><${View} view=${view} argument=${argument} params=${params} /></main>
    ${run && (params.play !== undefined || params.watch !== undefined) && html`<${PlayerDialog} params=${params} />`}<${SameNameDialog} /><${DropAnywhere} /><${Toasts} />`;
}

keepPreferences();
moveFrames();
render(html`<${App} />`, document.getElementById("app"));
start().then(send); // what an earlier page could not send
