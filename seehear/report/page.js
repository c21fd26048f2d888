"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text, cls) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text; // text only: names never become markup
    if (cls) node.className = cls;
    return node;
  };
  const read = (id) => JSON.parse($(id).textContent);
  const data = read("data");
  const thumbs = read("thumbs");
  const at = new Map(data.keys.map((key, i) => [key, i]));
  const fileOf = (i) => data.files[data.clips[i][0]];
  const classOf = (i) => { const c = data.truth[data.clips[i][0]]; return c >= 0 ? data.classes[c] : ""; };
  const doubtful = (i) => data.doubtful[i] === 1;
  const spanOf = (i) => `${data.clips[i][1].toFixed(1)}–${data.clips[i][2].toFixed(1)} s`;

  // ---- thumbnails: a Blob each, made when it comes into view and dropped when it has left
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const urls = new Map();
  const urlOf = (clip) => {
    if (!urls.has(clip)) {
      const bytes = Uint8Array.from(atob(thumbs[clip]), (c) => c.charCodeAt(0));
      urls.set(clip, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
    }
    return urls.get(clip);
  };
  let paused = calm.matches;
  let loud = null;
  const start = (video) => { video.play().catch(() => {}); };
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const video = target.firstElementChild;
      if (isIntersecting) {
        if (!video.src) { video.preload = "auto"; video.src = urlOf(target.dataset.clip); }
        if (!paused || target === loud) start(video);
      } else {
        if (target === loud) hush();
        video.pause();
        video.removeAttribute("src"); // browsers allow only so many players at once
        video.load();
      }
    }
  }, { rootMargin: "80px" });
  const hush = () => {
    if (!loud) return;
    const video = loud.firstElementChild;
    video.muted = true;
    if (paused) video.pause();
    loud.setAttribute("aria-pressed", "false");
    const now = loud.closest(".card").querySelector(".now");
    now.textContent = now.dataset.rest;
    loud = null;
  };
  const listen = (thumb) => {
    const same = thumb === loud;
    hush();
    if (same) return;
    loud = thumb;
    const video = thumb.firstElementChild;
    const i = at.get(Number(thumb.dataset.clip));
    const now = thumb.closest(".card").querySelector(".now");
    now.dataset.rest ??= now.textContent;
    if (i !== undefined) now.textContent = [fileOf(i), spanOf(i), classOf(i)].filter(Boolean).join(" · ");
    if (!video.src) video.src = urlOf(thumb.dataset.clip);
    video.muted = false;
    video.currentTime = 0;
    start(video);
    thumb.setAttribute("aria-pressed", "true");
  };
  for (const thumb of all(".thumb[data-clip]")) {
    seen.observe(thumb);
    thumb.addEventListener("pointerenter", () => { if (!calm.matches && thumb.firstElementChild.src) start(thumb.firstElementChild); });
    thumb.addEventListener("pointerleave", () => { if (paused && thumb !== loud) thumb.firstElementChild.pause(); });
  }
  const still = $("still");
  const setPaused = (value) => {
    paused = value;
    if (still) { still.textContent = paused ? "Play motion" : "Pause motion"; still.setAttribute("aria-pressed", String(paused)); }
    for (const thumb of all(".thumb[data-clip]")) {
      const video = thumb.firstElementChild;
      if (thumb === loud || !video.src) continue;
      if (paused) video.pause(); else start(video);
    }
  };
  if (still) still.addEventListener("click", () => setPaused(!paused));
  calm.addEventListener("change", () => setPaused(calm.matches));
  if (paused) setPaused(true);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });

  // ---- tabs
  const tabs = all("[role=tab]");
  const choose = (tab, focus) => {
    for (const other of tabs) {
      const on = other === tab;
      other.setAttribute("aria-selected", String(on));
      other.tabIndex = on ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = !on;
    }
    hush();
    if (focus) tab.focus();
    refine();
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(tabs[(to + tabs.length) % tabs.length], true);
    });
  });

  // ---- sort, show only, find
  const membersOf = (labelling, cluster) => {
    const { cluster: c, rank } = data.labellings[labelling];
    const found = [];
    for (let i = 0; i < c.length; i++) if (c[i] === cluster) found.push(i);
    return found.sort((a, b) => rank[a] - rank[b]);
  };
  const haystacks = new Map();
  const haystack = (card) => {
    if (!haystacks.has(card)) {
      const names = membersOf(card.dataset.labelling, Number(card.dataset.cluster)).map(fileOf);
      haystacks.set(card, `${card.dataset.concepts}\n${names.join("\n")}`.toLowerCase());
    }
    return haystacks.get(card);
  };
  const value = (card, key) => (card.dataset[key] === "" ? null : Number(card.dataset[key]));
  const tests = {
    all: () => true,
    sure: (card) => value(card, "confidence") >= 0.5,
    unsure: (card) => value(card, "confidence") < 0.5,
    pure: (card) => value(card, "purity") >= 0.5,
    mixed: (card) => value(card, "purity") < 0.5,
    doubtful: (card) => value(card, "doubtful") > 0,
  };
  function refine() {
    const panel = all(".panel").find((p) => !p.hidden);
    if (!panel) return;
    const by = $("sort").value;
    const key = { size: "size", purity: "purity", tight: "tight", confidence: "confidence", id: "cluster" }[by];
    const down = by === "size" || by === "purity" || by === "confidence";
    const cards = all(".card", panel);
    const order = [...cards].sort((a, b) => {
      const x = value(a, key) ?? (down ? -Infinity : Infinity), y = value(b, key) ?? (down ? -Infinity : Infinity);
      return (x === y ? 0 : (x < y) === down ? 1 : -1) || value(a, "cluster") - value(b, "cluster");
    });
    if (order.some((card, i) => card !== cards[i])) panel.querySelector(".cards").append(...order);
    const text = $("find").value.trim().toLowerCase();
    const numeric = /^#?\d+$/.test(text);
    let count = 0;
    for (const card of order) {
      const hit = !text || (numeric && card.dataset.cluster === text.replace("#", "")) || (!text.startsWith("#") && haystack(card).includes(text));
      const on = hit && tests[$("show").value](card);
      card.hidden = !on;
      count += on;
    }
    panel.querySelector(".none").hidden = count > 0;
    $("found").textContent = count === order.length ? "" : `${count} of ${order.length}`;
  }
  if ($("tools")) {
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["sort", "show", "find"]) $(id).addEventListener("input", refine);
    choose(tabs[0]);
  }

  // ---- all videos of a cluster
  const dialog = $("members");
  let listed = [];
  const list = () => {
    const text = $("members-filter").value.trim().toLowerCase();
    const only = $("members-doubtful").checked;
    const hits = listed.filter((entry) => (!only || entry.doubtful) && (!text || entry.text.toLowerCase().includes(text)));
    const first = hits.slice(0, 1000);
    $("members-list").replaceChildren(...first.map((entry) => {
      const item = make("li");
      item.append(make("span", entry.place), make("b", entry.name), make("span", entry.more));
      return item;
    }));
    $("members-note").textContent = `${hits.length} of ${dialog.dataset.size} clips, the closest to the centre first` +
      (hits.length > first.length ? `; the first ${first.length} shown` : "");
  };
  const open = (card) => {
    const name = card.dataset.labelling, cluster = Number(card.dataset.cluster);
    const sure = data.labellings[name].confidence;
    listed = membersOf(name, cluster).map((i, place) => {
      const more = [doubtful(i) && "doubtful", classOf(i), spanOf(i), sure[i] === null ? "" : sure[i].toFixed(2)].filter(Boolean).join(" · ");
      return { place: place + 1, name: fileOf(i), more, doubtful: doubtful(i), text: `${fileOf(i)} ${classOf(i)}` };
    });
    $("members-title").textContent = `${name[0].toUpperCase()}${name.slice(1)} cluster ${cluster}`;
    dialog.dataset.size = card.dataset.size;
    $("members-filter").value = "";
    $("members-doubtful").checked = false;
    $("members-doubtful").parentElement.hidden = !listed.some((entry) => entry.doubtful);
    list();
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  for (const id of ["members-filter", "members-doubtful"]) $(id).addEventListener("input", list);
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const panel of all(".panel, .doubted")) {
    panel.addEventListener("click", (event) => {
      const thumb = event.target.closest(".thumb[data-clip]");
      if (thumb) return listen(thumb);
      const card = event.target.closest(".card[data-cluster]");
      if (card && !event.target.closest(".gone") && !getSelection().toString()) open(card);
    });
  }

  // ---- tool tip
  const tip = $("tip");
  const showTip = (x, y, ...nodes) => {
    tip.replaceChildren(...nodes);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
  };
  const hideTip = () => { tip.hidden = true; tip.replaceChildren(); };
  addEventListener("scroll", hideTip, { passive: true });

  // ---- curves
  for (const svg of all("svg[data-chart]")) {
    const chart = JSON.parse(svg.dataset.chart);
    const cursor = svg.querySelector(".cursor");
    const places = [...new Set(chart.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
    let index = places.length - 1;
    const show = (x, clientX, clientY, speak) => {
      const near = chart.series.map((s) => ({ s, p: s.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)) }))
        .filter(({ s, p }) => Math.abs(p[0] - x) <= 6 || s.points.length > 60);
      if (!near.length) return;
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.classList.add("on");
      const head = make("div", `${chart.x_label} ${near[0].p[2]}`);
      const rows = near.map(({ s, p }) => {
        const row = make("div", `${s.name}: ${p[3]}`);
        row.prepend(make("span", "", `key`));
        return row;
      });
      showTip(clientX, clientY, head, ...rows);
      if (speak) $("say").textContent = [head, ...rows].map((n) => n.textContent).join(", ");
    };
    const off = () => { cursor.classList.remove("on"); hideTip(); };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 400;
      index = places.reduce((best, p, i) => (Math.abs(p - x) < Math.abs(places[best] - x) ? i : best), 0);
      show(places[index], event.clientX, event.clientY, false);
    });
    svg.addEventListener("pointerleave", off);
    svg.addEventListener("blur", off);
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      index = Math.max(0, Math.min(places.length - 1, index + by));
      const box = svg.getBoundingClientRect();
      show(places[index], box.left + (places[index] / 400) * box.width, box.top + box.height / 3, true);
    });
  }

  // ---- heat maps
  for (const svg of all("svg[data-heat]")) {
    const heat = JSON.parse(svg.dataset.heat);
    const cursor = svg.querySelector(".cursor");
    const line = svg.closest("figure").querySelector(".readout");
    const totals = heat.counts.map((row) => row.reduce((a, b) => a + b, 0));
    let row = 0, column = 0;
    const show = () => {
      cursor.setAttribute("x", heat.left + column * heat.cell);
      cursor.setAttribute("y", heat.top + row * heat.cell);
      cursor.classList.add("on");
      const n = heat.counts[row][column];
      line.textContent = `${heat.rows[row]} × ${heat.columns[column]}: ${n} ${heat.unit}${n === 1 ? "" : "s"}, ` +
        `${Math.round((100 * n) / (totals[row] || 1))} % of the row`;
    };
    const point = (event) => {
      const box = svg.getBoundingClientRect(), wide = svg.viewBox.baseVal.width / box.width;
      const c = Math.floor(((event.clientX - box.left) * wide - heat.left) / heat.cell);
      const r = Math.floor(((event.clientY - box.top) * wide - heat.top) / heat.cell);
      if (r < 0 || c < 0 || r >= heat.rows.length || c >= heat.columns.length) return;
      row = r; column = c; show();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!by) return;
      event.preventDefault();
      row = Math.max(0, Math.min(heat.rows.length - 1, row + by[0]));
      column = Math.max(0, Math.min(heat.columns.length - 1, column + by[1]));
      show();
    });
  }

  // ---- maps
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const canvases = all("canvas[data-map]");
  const groupOf = () => {
    const by = $("colour") ? $("colour").value : "";
    if (by === "class") return { of: (i) => data.truth[data.clips[i][0]], name: (g) => data.classes[g] };
    if (by.startsWith("cluster:")) {
      const { cluster } = data.labellings[by.slice(8)];
      return { of: (i) => cluster[i], name: (g) => `${by.slice(8)} ${g}` };
    }
    return { of: () => -1, name: () => "" };
  };
  // Neighbouring numbers get hues far apart (the golden angle); lightness takes turns for those who see hue badly.
  const tint = (g) => g < 0 ? (dark.matches ? "#80848e" : "#8d9099")
    : `hsl(${(g * 137.508 + 215) % 360} ${dark.matches ? 70 : 62}% ${(dark.matches ? [66, 54, 78] : [44, 34, 54])[g % 3]}%)`;
  const draw = (canvas) => {
    const map = data.maps[canvas.dataset.map];
    const side = canvas.clientWidth, dense = devicePixelRatio || 1;
    if (!side) return;
    canvas.width = canvas.height = Math.round(side * dense);
    const context = canvas.getContext("2d");
    context.scale(dense, dense);
    const { of } = groupOf();
    const picked = $("highlight") ? $("highlight").value : "";
    const radius = Math.max(1.6, Math.min(4.5, side / 9 / Math.sqrt(map.clips.length)));
    const edge = radius + 4;
    canvas.place = (v) => edge + (v / 1000) * (side - 2 * edge);
    const indices = map.clips.map((key) => at.get(key));
    for (const top of [false, true]) {
      indices.forEach((i, n) => {
        const group = of(i), on = picked === "" || String(group) === picked;
        if (on !== top) return;
        context.globalAlpha = on ? 0.85 : 0.16;
        context.fillStyle = on ? tint(group) : tint(-1);
        context.beginPath();
        context.arc(canvas.place(map.x[n]), canvas.place(1000 - map.y[n]), radius, 0, 7);
        context.fill();
      });
    }
    canvas.indices = indices;
  };
  const drawAll = () => canvases.forEach(draw);
  const regroup = () => {
    const { of, name } = groupOf();
    const groups = new Set();
    for (const map of Object.values(data.maps)) for (const key of map.clips) groups.add(of(at.get(key)));
    const sorted = [...groups].filter((g) => g >= 0).sort((a, b) => a - b);
    const pick = $("highlight");
    if (pick) pick.replaceChildren(new Option("all", ""), ...sorted.map((g) => new Option(name(g), g)));
    $("map-legend").replaceChildren(...(sorted.length > 24 ? [] : sorted).map((g) => {
      const item = make("li", name(g)), key = make("span", "", "key");
      key.style.setProperty("--tone", tint(g));
      item.prepend(key);
      return item;
    }));
    drawAll();
  };
  if (canvases.length) {
    if ($("colour")) { $("colour").addEventListener("input", regroup); $("highlight").addEventListener("input", drawAll); }
    dark.addEventListener("change", regroup);
    new ResizeObserver(drawAll).observe(canvases[0]);
    for (const canvas of canvases) {
      let shown = -1;
      const point = (event) => {
        const map = data.maps[canvas.dataset.map], box = canvas.getBoundingClientRect();
        const x = event.clientX - box.left, y = event.clientY - box.top;
        let best = -1, near = 14 * 14;
        canvas.indices.forEach((_, n) => {
          const d = (canvas.place(map.x[n]) - x) ** 2 + (canvas.place(1000 - map.y[n]) - y) ** 2;
          if (d < near) { near = d; best = n; }
        });
        if (best < 0) { shown = -1; return hideTip(); }
        const i = canvas.indices[best], key = map.clips[best];
        if (best !== shown) {
          const nodes = [];
          if (thumbs[key]) {
            const video = make("video");
            Object.assign(video, { muted: true, loop: true, playsInline: true, src: urlOf(String(key)), autoplay: !paused, preload: "auto" });
            nodes.push(video);
          }
          nodes.push(make("div", fileOf(i)));
          const { of, name } = groupOf();
          const group = of(i);
          nodes.push(make("div", [group >= 0 ? name(group) : "", spanOf(i)].filter(Boolean).join(" · ")));
          showTip(event.clientX, event.clientY, ...nodes);
        } else showTip(event.clientX, event.clientY, ...tip.childNodes);
        shown = best;
      };
      canvas.addEventListener("pointermove", point);
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointerleave", () => { shown = -1; hideTip(); });
    }
    regroup();
  }

  // ---- where we are
  const links = new Map(all(".sections a").map((a) => [a.hash.slice(1), a]));
  const spy = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const link = links.get(target.id);
      if (link) { if (isIntersecting) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current"); }
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  all("main > section").forEach((s) => spy.observe(s));
})();
