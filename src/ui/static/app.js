// What a hand needs on top of pages that are whole without it: hover, zoom, legend, pickers, refresh, keyboard.
// No framework and no build step. Styles are set through the object model, as the page's policy demands.
"use strict";
(() => {
  const root = document.documentElement;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const element = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  root.classList.add("js");
  // What stands before all addresses: the server says it as one that ends with a slash.
  const base = root.dataset.base.slice(0, -1);

  // The server draws for the zone and the scheme of this browser from the next request on.
  const remember = (name, value) => {
    document.cookie = `${name}=${value};path=/;max-age=31536000;samesite=lax`;
  };
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  remember("tz", zone);
  const light = matchMedia("(prefers-color-scheme: light)");
  remember("scheme", light.matches ? "light" : "dark");

  // Lists that this browser keeps for its reader; none where it keeps nothing.
  const kept = (name) => {
    try {
      const list = JSON.parse(localStorage.getItem(name) ?? "[]");
      return Array.isArray(list) ? list : [];
    } catch { return []; }
  };
  const keep = (name, list) => {
    try { localStorage.setItem(name, JSON.stringify(list)); } catch { /* full or forbidden */ }
  };

  const dash = $("#dash");
  const state = dash && {
    path: dash.dataset.path,
    from: +dash.dataset.from,
    to: +dash.dataset.to,
    refresh: +dash.dataset.refresh,
    isLive: dash.dataset.live === "true",
    tooltip: +dash.dataset.tooltip,
    zone: dash.dataset.zone,
    zoneIsBrowsers: dash.dataset.zoneBrowser === "true",
  };
  const hidden = new Map(); // panel key -> Set of names
  const plots = new Map(); // canvas -> data

  const go = (changes) => {
    const url = new URL(location.href);
    for (const [name, value] of Object.entries(changes)) url.searchParams.set(name, value);
    location.href = url;
  };

  // Numbers as the server writes them: a unit is a ladder of [from, scale, suffix of one, suffix of many].
  const fixed = (v, decimals) => {
    if (v === 0) return (0).toFixed(decimals || 0);
    const d = decimals ?? (Number.isInteger(v) ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(v)))));
    const factor = 10 ** Math.min(d, 20);
    const text = String(Math.round(v * factor) / factor);
    if (text.includes("e") || d === 0) return text;
    const have = text.includes(".") ? text.length - text.indexOf(".") - 1 : 0;
    return have === 0 ? text + "." + "0".repeat(d) : text + "0".repeat(Math.max(0, d - have));
  };
  const format = (v, unit) => {
    if (v === null || v === undefined) return "";
    if (!unit.r) return String(v);
    const size = Math.abs(v);
    let rung = unit.r[0];
    if (v === 0) rung = unit.r[unit.z];
    else for (const r of unit.r) if (size >= r[0]) rung = r;
    const scaled = v / rung[1];
    const number = fixed(scaled, unit.bz && v === 0 ? 0 : unit.d);
    const suffix = Math.abs(scaled) > 1 ? rung[3] : rung[2];
    return unit.sf && number[0] === "-" ? "-" + unit.p + number.slice(1) + suffix : unit.p + number + suffix;
  };
  const clock = (ms) => {
    const options = { timeZone: state.zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit",
      hour: "2-digit", minute: "2-digit", second: "2-digit" };
    let parts;
    try { parts = new Intl.DateTimeFormat("en-CA", options).formatToParts(ms); } catch { return new Date(ms).toISOString(); }
    const p = Object.fromEntries(parts.map((x) => [x.type, x.value]));
    return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second}`;
  };

  // Plots: the numbers lie beside each canvas as JSON.
  const timeAt = (grid, i) => (grid.t ? grid.t[i] : grid.s + grid.d * i);
  const nearest = (grid, ms) => {
    const n = grid.t ? grid.t.length : grid.n;
    if (!grid.t) return Math.max(0, Math.min(n - 1, Math.round((ms - grid.s) / grid.d)));
    let best = 0;
    for (let i = 1; i < n; i++) if (Math.abs(grid.t[i] - ms) < Math.abs(grid.t[best] - ms)) best = i;
    return best;
  };
  const height = (axis, v) => {
    const [min, max, base, linear] = axis;
    if (base && linear) {
      const at = (x) => Math.asinh(x / linear);
      return (at(v) - at(min)) / (at(max) - at(min));
    }
    if (base) return Math.log(Math.max(v, 1e-300) / min) / Math.log(max / min);
    return (v - min) / (max - min);
  };
  const setUp = (panel) => {
    for (const script of $$("script.data", panel)) {
      const canvas = $(".canvas", script.parentElement);
      if (!canvas || plots.has(canvas)) continue;
      try { plots.set(canvas, JSON.parse(script.textContent)); } catch { /* a page cut short has no hover */ }
    }
  };

  let tip = null;
  const clear = (canvas) => $$(".cross,.dot", canvas).forEach((e) => e.remove());
  const clearAll = () => {
    for (const canvas of plots.keys()) clear(canvas);
    if (tip) tip.remove();
    tip = null;
  };
  const near = (data, ms) => {
    const out = [];
    for (const s of data.series) {
      const grid = data.grids[s.g];
      const i = nearest(grid, ms);
      const v = s.v[i];
      // A value further away than its own step belongs to another moment.
      if (v === null || v === undefined || (grid.d && Math.abs(timeAt(grid, i) - ms) > grid.d)) continue;
      if (data.hideZeros && v === 0) continue;
      out.push({ s, v, at: s.p ? s.p[i] : v, t: timeAt(grid, i) });
    }
    return out;
  };
  const cross = (canvas, data, ms) => {
    clear(canvas);
    const share = (ms - data.from) / (data.to - data.from);
    if (!(share >= 0 && share <= 1)) return;
    const line = element("div", "cross");
    line.style.left = share * 100 + "%";
    canvas.append(line);
  };
  const hover = (canvas, event) => {
    const data = plots.get(canvas);
    const box = canvas.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    const ms = data.from + share * (data.to - data.from);
    const depth = (event.clientY - box.top) / box.height;
    const targets = state.tooltip > 0 ? [...plots.keys()] : [canvas];
    for (const other of targets) cross(other, plots.get(other), ms);
    if (data.mode === "heatmap") return tipHeat(data, ms, depth, event);
    if (data.mode === "states") return tipState(data, ms, depth, event);
    if (data.mode === "points") return tipPoint(canvas, data, event);
    if (data.mode === "none") return;
    let rows = near(data, ms);
    let best = null;
    for (const row of rows) {
      const y = 1 - height(data.axes[row.s.a], row.at);
      row.far = Math.abs(y - depth);
      if (!best || row.far < best.far) best = row;
      if (y >= 0 && y <= 1 && rows.length <= 40) {
        const dot = element("div", "dot");
        dot.style.left = ((row.t - data.from) / (data.to - data.from)) * 100 + "%";
        dot.style.top = y * 100 + "%";
        dot.style.background = row.s.c;
        canvas.append(dot);
      }
    }
    if (data.mode === "single" && state.tooltip < 2) rows = best ? [best] : [];
    else if (data.sort === "desc" || data.sort === "none") rows.sort((a, b) => (data.sort === "desc" ? b.v - a.v : 0));
    else rows.sort((a, b) => a.v - b.v);
    show(event, ms, rows.slice(0, 30).map((r) => ({
      color: r.s.c, name: r.s.n, text: r.text || format(r.v, data.units[r.s.u]), isNear: r === best && rows.length > 1,
    })), rows.length - 30);
  };
  const tipHeat = (data, ms, depth, event) => {
    const row = Math.min(data.series.length - 1, Math.max(0, Math.floor((1 - depth) * data.series.length)));
    const s = data.series[row];
    const grid = data.grids[0];
    // A cell covers the step before its time.
    const i = Math.max(0, Math.min(grid.n - 1, Math.ceil((ms - grid.s) / grid.d)));
    const below = row > 0 ? data.series[row - 1].n : "";
    show(event, timeAt(grid, i), [{ color: "", name: below ? `${below} to ${s.n}` : `up to ${s.n}`, text: format(s.v[i], data.units[0]) }], 0);
  };
  // A while in its largest two units.
  const lasting = (ms) => {
    const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
    let rest = Math.round(ms / 1000);
    const out = [];
    for (const [seconds, name] of units) {
      const n = Math.floor(rest / seconds);
      if (n > 0) out.push(n + name);
      rest -= n * seconds;
    }
    return out.slice(0, 2).join(" ") || "0s";
  };
  const tipState = (data, ms, depth, event) => {
    const s = data.series[Math.min(data.series.length - 1, Math.max(0, Math.floor(depth * data.series.length)))];
    const stay = s.r.find(([from, to]) => ms - data.from >= from && ms - data.from < to);
    const [text, color] = stay ? data.words[stay[2]] : ["No data", ""];
    show(event, ms, [{ color, name: s.n, text: stay ? `${text} for ${lasting(stay[1] - stay[0])}` : text }], 0);
  };
  // The point that is nearest to the eye, of a plot over a number.
  const tipPoint = (canvas, data, event) => {
    clear(canvas);
    const box = canvas.getBoundingClientRect();
    let best = null;
    for (const s of data.series) {
      for (const [x, y] of s.p) {
        const left = height(data.axes[0], x);
        const top = 1 - height(data.axes[1], y);
        const far = Math.hypot(left * box.width - event.clientX + box.left, top * box.height - event.clientY + box.top);
        if (!best || far < best.far) best = { s, x, y, left, top, far };
      }
    }
    if (!best) return;
    const dot = element("div", "dot");
    dot.style.left = best.left * 100 + "%";
    dot.style.top = best.top * 100 + "%";
    dot.style.background = best.s.c;
    canvas.append(dot);
    show(event, "", [
      { color: "", name: best.s.x, text: format(best.x, data.units[0]) },
      { color: best.s.c, name: best.s.n, text: format(best.y, data.units[best.s.u]) },
    ], 0);
  };
  const show = (event, ms, rows, more) => {
    if (!tip) {
      tip = element("div", "tip");
      document.body.append(tip);
    }
    tip.replaceChildren(...(ms === "" ? [] : [element("time", "", clock(ms))]));
    const table = element("table");
    for (const r of rows) {
      const tr = element("tr", r.isNear ? "near" : "");
      const first = element("td");
      const swatch = element("span", "swatch");
      swatch.style.background = r.color;
      first.append(swatch);
      tr.append(first, element("td", "", r.name), element("td", "", r.text));
      table.append(tr);
    }
    tip.append(table);
    if (more > 0) tip.append(element("time", "", `and ${more} more`));
    const size = tip.getBoundingClientRect();
    const x = event.clientX + 14 + size.width > innerWidth ? event.clientX - size.width - 14 : event.clientX + 14;
    const y = Math.min(event.clientY + 12, innerHeight - size.height - 6);
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = Math.max(4, y) + "px";
  };

  // Zoom: drag over a plot; a double click goes back.
  let drag = null;
  document.addEventListener("pointerdown", (event) => {
    const canvas = event.target.closest?.(".canvas");
    if (!canvas || !plots.has(canvas) || event.button !== 0 || event.pointerType === "touch") return;
    if (plots.get(canvas).mode === "points") return;
    drag = { canvas, x: event.clientX, mark: null };
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    if (drag) {
      const box = drag.canvas.getBoundingClientRect();
      if (!drag.mark && Math.abs(event.clientX - drag.x) > 4) drag.canvas.append((drag.mark = element("div", "zoom")));
      if (drag.mark) {
        const clip = (v) => Math.max(0, Math.min(box.width, v - box.left));
        const [a, b] = [clip(drag.x), clip(event.clientX)].sort((p, q) => p - q);
        drag.mark.style.left = a + "px";
        drag.mark.style.width = b - a + "px";
        drag.range = [a / box.width, b / box.width];
      }
    }
    const canvas = event.target.closest?.(".canvas");
    if (canvas && plots.has(canvas)) hover(canvas, event);
    else if (tip) clearAll();
  });
  document.addEventListener("pointerup", () => {
    if (drag?.mark && drag.range) {
      const data = plots.get(drag.canvas);
      const at = (share) => Math.round(data.from + share * (data.to - data.from));
      const [from, to] = drag.range.map(at);
      drag.mark.remove();
      if (to - from >= 1000) go({ from, to });
    }
    drag = null;
  });
  document.addEventListener("pointerleave", clearAll);
  document.addEventListener("scroll", () => tip && clearAll(), { passive: true, capture: true });
  const zoomOut = () => {
    const half = Math.max(500, (state.to - state.from) / 2);
    go({ from: Math.round(state.from - half), to: Math.round(Math.min(state.to + half, Date.now())) });
  };
  document.addEventListener("dblclick", (event) => {
    if (!state || !event.target.closest?.(".canvas,.panel .empty")) return;
    // Back to the window from before the zoom when there was one on this dashboard.
    if (new URL(location.href).searchParams.get("from")?.match(/^\d+$/) && history.length > 1) history.back();
    else zoomOut();
  });

  // Panels: fetch their inside anew.
  const busy = new Map();
  const load = async (panel) => {
    if (!state?.path || state.path === base + "/explore" || !panel.dataset.key) return;
    busy.get(panel)?.abort();
    const abort = new AbortController();
    busy.set(panel, abort);
    const params = new URLSearchParams(location.search);
    const body = $(":scope > .body", panel);
    if (body) {
      params.set("w", Math.max(40, Math.round(body.clientWidth - 16)));
      params.set("h", Math.max(40, Math.round(body.clientHeight - 8)));
    }
    if (panel.classList.contains("alone")) params.set("viewPanel", panel.dataset.key);
    for (const name of hidden.get(panel.dataset.key) ?? []) params.append("hide", name);
    panel.classList.add("loading");
    try {
      const response = await fetch(`${state.path}/panel/${encodeURIComponent(panel.dataset.key)}?${params}`, { signal: abort.signal });
      if (!response.ok) throw new Error(`${response.status}`);
      const html = await response.text();
      // Whoever reads an open note or hovers keeps what is there until the next round.
      if (panel.querySelector("details[open]") || (tip && panel.matches(":hover") && !panel.dataset.force)) return;
      for (const canvas of $$(".canvas", panel)) plots.delete(canvas);
      const scrolled = $$(".legend,.table-wrap,.text,.bars", panel).map((e) => e.scrollTop);
      panel.innerHTML = html;
      panel.classList.add("exact");
      $$(".legend,.table-wrap,.text,.bars", panel).forEach((e, i) => { e.scrollTop = scrolled[i] ?? 0; });
      setUp(panel);
      panel.dataset.loaded = Date.now();
    } catch (error) {
      if (error.name !== "AbortError") panel.dataset.stale = "1";
    } finally {
      delete panel.dataset.force;
      if (busy.get(panel) === abort) {
        busy.delete(panel);
        panel.classList.remove("loading");
      }
    }
  };
  const isSeen = (panel) => {
    const box = panel.getBoundingClientRect();
    return box.bottom > -200 && box.top < innerHeight + 200;
  };
  const waiting = new Set();
  // A page without data says what it waits for; when that is there, the page is drawn anew with its pickers.
  const arrived = async () => {
    const hint = $("[data-needs]", dash);
    if (!hint) return;
    const params = { "match[]": hint.dataset.needs, start: state.from / 1000, end: state.to / 1000, limit: 1 };
    try {
      const response = await fetch(base + "/api/v1/label/__name__/values?" + new URLSearchParams(params));
      if (response.ok && (await response.json()).data.length) location.reload();
    } catch { /* the next round asks again */ }
  };
  const refresh = () => {
    if (document.hidden) return;
    for (const panel of $$(".panel", dash)) isSeen(panel) ? load(panel) : waiting.add(panel);
    arrived();
    const length = state.to - state.from;
    if (state.isLive) {
      state.to = Date.now();
      state.from = state.to - length;
    }
  };
  const follow = () => {
    for (const panel of waiting) {
      if (!isSeen(panel)) continue;
      waiting.delete(panel);
      load(panel);
    }
  };

  // Legend: a click shows one series alone, with ctrl it switches one off or on.
  const pick = (key, event) => {
    const panel = key.closest(".panel");
    const all = $$(".legend .key[data-name]", panel).map((k) => k.dataset.name);
    const name = key.dataset.name;
    let off = new Set(hidden.get(panel.dataset.key) ?? []);
    if (event.ctrlKey || event.metaKey || event.shiftKey) off.has(name) ? off.delete(name) : off.add(name);
    else {
      const isAlone = !off.has(name) && off.size === new Set(all).size - 1;
      off = isAlone ? new Set() : new Set(all.filter((n) => n !== name));
    }
    if (off.size >= new Set(all).size) off = new Set();
    hidden.set(panel.dataset.key, off);
    for (const k of $$(".legend .key[data-name]", panel)) {
      const isOff = off.has(k.dataset.name);
      k.closest("li,tr").classList.toggle("off", isOff);
      $$(`.marks g[data-s="${k.dataset.s}"]`, panel).forEach((g) => { g.style.display = isOff ? "none" : ""; });
    }
    if (panel.dataset.key) {
      panel.dataset.force = "1";
      load(panel);
    }
  };
  document.addEventListener("pointerover", (event) => {
    const key = event.target.closest?.(".legend .key[data-s]");
    const panel = event.target.closest?.(".panel");
    if (!panel) return;
    for (const g of $$(".marks g", panel)) g.classList.toggle("faint", !!key && g.dataset.s !== key.dataset.s);
  });

  // Pickers.
  const controls = $("#controls");
  const submit = () => controls?.requestSubmit();
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input.matches("#controls .auto")) return submit();
    if (input.matches(".multi input[type=checkbox]")) {
      const list = input.closest(".sheet");
      list.dataset.changed = "1";
      // "All" and single values exclude each other.
      if (!input.checked) return;
      for (const other of $$("input[type=checkbox]", list)) {
        if (other !== input && (input.value === "$__all" || other.value === "$__all")) other.checked = false;
      }
    }
  });
  document.addEventListener("input", (event) => {
    if (!event.target.matches(".filter") || event.target.closest("#metrics")) return;
    const words = event.target.value.toLowerCase();
    for (const line of $$("label,.all a", event.target.closest(".sheet"))) line.hidden = !line.textContent.toLowerCase().includes(words);
  });
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    if (!menu.matches?.("details.menu,details.info")) return;
    if (menu.open) {
      $$("details.menu[open],details.info[open]").forEach((d) => { if (d !== menu && !d.contains(menu)) d.open = false; });
      $(".filter", menu)?.focus();
    } else if ($(".sheet", menu)?.dataset.changed) submit();
  }, true);
  const closeMenus = () => $$("details.menu[open],details.info[open]").forEach((d) => { d.open = false; });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("details.menu,details.info")) closeMenus();
    const key = event.target.closest(".legend .key[data-name]");
    if (key) return pick(key, event);
    // A panel's own settings change that panel only.
    const part = event.target.closest("a.part");
    const own = part?.closest(".panel[data-key]");
    if (own && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      history.replaceState(null, "", part.href);
      own.dataset.force = "1";
      return load(own);
    }
    const action = event.target.closest("[data-do]")?.dataset.do;
    if (action === "zoom-out") zoomOut();
    if (action === "help") help();
    if (action === "theme") turnTheme();
    if (action === "refresh") {
      event.preventDefault();
      refresh();
    }
  });
  const turnTheme = () => {
    const order = { auto: "light", light: "dark", dark: "auto" };
    remember("theme", order[root.dataset.theme] ?? "dark");
    const url = new URL(location.href);
    url.searchParams.delete("theme");
    location.href = url;
  };

  // Keyboard.
  const help = () => {
    let box = $("dialog");
    if (!box) {
      box = element("dialog");
      const list = element("dl");
      const keys = [["t z", "Zoom out"], ["t ←  t →", "Earlier, later"], ["d r", "Refresh"], ["d k", "Kiosk"], ["d s", "Search dashboards"],
        ["Esc", "Close, or back from one panel"], ["drag", "Zoom into a plot"], ["double click", "Zoom back"],
        ["click, Ctrl+click", "Legend: one series alone, switch one"], ["?", "This list"]];
      for (const [k, what] of keys) {
        const term = element("dt");
        term.append(element("kbd", "", k));
        list.append(term, element("dd", "", what));
      }
      const close = element("button", "", "Close");
      close.addEventListener("click", () => box.close());
      box.append(element("h2", "", "Keyboard and mouse"), list, close);
      document.body.append(box);
    }
    box.showModal();
  };
  let first = "";
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("[data-promql]")) {
      event.target.form.requestSubmit();
      return;
    }
    if (event.target.matches("input,textarea,select") || event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Escape") {
        event.target.blur();
        closeMenus();
      }
      return;
    }
    const pair = first + event.key;
    first = "td".includes(event.key) && !first ? event.key : "";
    const shift = (by) => {
      const length = state.to - state.from;
      go({ from: Math.round(state.from + by * length), to: Math.round(state.to + by * length) });
    };
    if (event.key === "?") help();
    else if (event.key === "Escape") {
      if ($("dialog[open]")) return;
      if ($("details[open].menu,details[open].info")) return closeMenus();
      const url = new URL(location.href);
      for (const name of ["viewPanel", "kiosk"]) {
        if (!url.searchParams.has(name)) continue;
        url.searchParams.delete(name);
        location.href = url;
        return;
      }
    } else if (pair === "ds") location.href = base + "/dashboards";
    else if (!state) return;
    else if (pair === "tz") zoomOut();
    else if (pair === "dr") refresh();
    else if (pair === "dk") go({ kiosk: "" });
    else if (pair === "tArrowLeft") shift(-0.5);
    else if (pair === "tArrowRight") shift(0.5);
  });

  // Stars: the dashboards a reader comes back to.
  const STARS_MAX = 500;
  const stars = new Set(kept("stars"));
  const only = $("[data-do=starred]");
  const showStars = () => {
    for (const button of $$("[data-star]")) {
      const isOn = stars.has(button.dataset.star);
      button.textContent = isOn ? "★" : "☆";
      button.setAttribute("aria-pressed", isOn);
      button.title = isOn ? "Remove the star" : "Mark with a star";
    }
    if (!only) return;
    const isOnly = location.hash === "#starred";
    only.classList.toggle("on", isOnly);
    only.setAttribute("aria-pressed", isOnly);
    for (const item of $$(".dash-list li")) item.hidden = isOnly && !stars.has($("[data-star]", item).dataset.star);
    for (const folder of $$(".folder")) folder.hidden = isOnly && !$("li:not([hidden])", folder);
    $("#no-stars").hidden = !isOnly || !!$(".dash-list li:not([hidden])");
  };
  document.addEventListener("click", (event) => {
    const star = event.target.closest("[data-star]")?.dataset.star;
    if (star && !stars.delete(star) && stars.size < STARS_MAX) stars.add(star);
    if (star) keep("stars", [...stars]);
    if (event.target.closest("[data-do=starred]")) history.replaceState(null, "", location.hash === "#starred" ? location.pathname + location.search : "#starred");
    else if (!star) return;
    showStars();
  });
  addEventListener("hashchange", showStars);
  showStars();

  // PromQL: the server's own parser says what belongs at the cursor.
  const editor = $("[data-promql]");
  if (editor) {
    complete(editor);
    remembered(editor);
    browse(editor);
  }
  // A query in the window that is shown.
  function queryLink(query) {
    const url = new URL(location.href);
    url.searchParams.set("expr", query);
    const link = element("a");
    link.href = url.pathname + url.search;
    return link;
  }
  function remembered(area) {
    const QUERIES_MAX = 100;
    const LENGTH_MAX = 4000;
    const box = $("#history .sheet");
    const asked = area.defaultValue.trim();
    let all = kept("queries").filter((q) => typeof q === "string");
    if (asked && asked.length <= LENGTH_MAX && !$(".query-error")) {
      all = [asked, ...all.filter((q) => q !== asked)].slice(0, QUERIES_MAX);
      keep("queries", all);
    }
    const show = () => {
      const lines = all.map((query) => {
        const link = queryLink(query);
        link.append(element("code", "", query));
        return link;
      });
      $("#history .all").replaceChildren(...lines);
      $(".none", box).hidden = all.length > 0;
      $("[data-do=forget]", box).hidden = !all.length;
    };
    $("[data-do=forget]", box).addEventListener("click", () => {
      all = [];
      keep("queries", all);
      show();
    });
    show();
  }
  // The metrics there are, with what their targets say of them.
  function browse(area) {
    const SHOWN_MAX = 200;
    const menu = $("#metrics");
    const list = $(".all", menu);
    let all = null;
    const rows = (names, about) => {
      const of = (name) => {
        const base = name.replace(/_(bucket|sum|count)$/, "");
        const isPart = base !== name && ["histogram", "summary"].includes(about[base]?.[0]?.type);
        return isPart ? base : about[name] ? name : name.replace(/_total$/, "");
      };
      const found = new Map();
      for (const name of names) {
        const family = of(name);
        const it = found.get(family) ?? { family, names: [], ...about[family]?.[0] };
        it.names.push(name);
        found.set(family, it);
      }
      return [...found.values()];
    };
    // What one most often wants to see of a metric of this type.
    const start = (it) => {
      const has = (suffix) => it.names.includes(it.family + suffix);
      if (it.type === "histogram") {
        return has("_bucket") ? `histogram_quantile(0.95, sum by (le) (rate(${it.family}_bucket[5m])))`
          : `histogram_quantile(0.95, sum(rate(${it.names[0]}[5m])))`;
      }
      if (it.type === "summary" && has("_count")) return `rate(${it.family}_count[5m])`;
      const isCounter = it.type === "counter" || (!it.type && it.names[0].endsWith("_total"));
      return isCounter ? `rate(${it.names[0]}[5m])` : it.names[0];
    };
    const show = () => {
      const words = $(".filter", menu).value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = all.filter((it) => {
        const text = `${it.names.join(" ")} ${it.type ?? ""} ${it.unit ?? ""} ${it.help ?? ""}`.toLowerCase();
        return words.every((w) => text.includes(w));
      });
      list.replaceChildren(...found.slice(0, SHOWN_MAX).map((it) => {
        const link = queryLink(start(it));
        const head = element("span", "name", it.names.length === 1 ? it.names[0] : it.family);
        for (const note of [it.type, it.unit]) if (note && note !== "unknown") head.append(element("span", "badge", note));
        link.append(head);
        if (it.help) link.append(element("span", "dim", it.help));
        return link;
      }));
      const rest = found.length - SHOWN_MAX;
      $(".none", menu).textContent = !all.length ? "There is no metric in this window." : !found.length ? "No metric has these words."
        : rest > 0 ? `${rest} more; write a word to find them.` : "";
    };
    menu.addEventListener("toggle", async () => {
      if (!menu.open || all) return;
      $(".none", menu).textContent = "Loading …";
      const get = async (path, params) => {
        const response = await fetch(base + path + "?" + new URLSearchParams(params));
        if (!response.ok) throw new Error(response.statusText);
        return (await response.json()).data;
      };
      const { from, to } = area.dataset;
      try {
        const [names, about] = await Promise.all([
          get("/api/v1/label/__name__/values", { start: from / 1000, end: to / 1000, limit: 20000 }),
          get("/api/v1/metadata", { limit: 20000, limit_per_metric: 1 }),
        ]);
        all = rows(names, about);
        show();
      } catch (error) { $(".none", menu).textContent = `The metrics could not be read: ${error.message}`; }
    });
    $(".filter", menu).addEventListener("input", () => { if (all) show(); });
  }
  // In a list of queries Enter takes the first that is left.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches(".queries .filter")) return;
    event.preventDefault();
    $(".all a:not([hidden])", event.target.closest(".sheet"))?.click();
  });
  function complete(area) {
    const bytes = new TextEncoder();
    const length = (text) => bytes.encode(text).length;
    let box = null;
    let at = 0;
    let place = [0, 0];
    let asked = null;
    const close = () => { asked?.abort(); box?.remove(); box = null; };
    const insert = (text) => {
      area.setRangeText(text, place[0], place[1], "end");
      close();
      area.focus();
      area.dispatchEvent(new Event("change"));
    };
    // Places are told in bytes; the text counts otherwise.
    const index = (text, at) => new TextDecoder().decode(bytes.encode(text).slice(0, at)).length;
    const update = async () => {
      const text = area.value;
      asked?.abort();
      asked = new AbortController();
      const params = { query: text, at: length(text.slice(0, area.selectionStart)), limit: 60 };
      if (area.dataset.from) Object.assign(params, { start: area.dataset.from / 1000, end: area.dataset.to / 1000 });
      let found;
      try {
        const response = await fetch(base + "/api/v1/complete?" + new URLSearchParams(params), { signal: asked.signal });
        found = response.ok && (await response.json()).data;
      } catch { return; }
      if (!found || text !== area.value) return close();
      place = found.replace.map((b) => index(text, b));
      const typed = text.slice(...place);
      const isName = found.wanted === "label" || found.wanted === "value";
      const all = found.candidates.slice(0, 60);
      if (!all.length || typed.length < (isName ? 0 : found.wanted === "expression" ? 2 : 1) || (all.length === 1 && all[0].text === typed)) return close();
      if (!box) {
        box = element("div", "complete");
        box.setAttribute("role", "listbox");
        area.after(box);
        area.parentElement.style.position = "relative";
      }
      at = 0;
      box.style.top = area.offsetTop + area.offsetHeight + "px";
      box.style.left = area.offsetLeft + "px";
      box.replaceChildren(...all.map((c, i) => {
        const line = element("div", "", c.text);
        line.append(element("span", "", c.usage || c.kind));
        if (c.doc) line.title = c.doc;
        line.dataset.value = c.text;
        line.setAttribute("role", "option");
        line.setAttribute("aria-selected", i === 0);
        line.addEventListener("pointerdown", (e) => { e.preventDefault(); insert(c.text); });
        return line;
      }));
    };
    area.addEventListener("input", update);
    area.addEventListener("blur", close);
    area.addEventListener("keydown", (event) => {
      if (!box) return;
      const lines = [...box.children];
      const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (move) {
        at = (at + move + lines.length) % lines.length;
        lines.forEach((l, i) => l.setAttribute("aria-selected", i === at));
        lines[at].scrollIntoView({ block: "nearest" });
      } else if (event.key === "Tab" || (event.key === "Enter" && !event.ctrlKey && !event.metaKey)) insert(lines[at].dataset.value);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
    });
  }

  // Files go into the text beside them; addresses into the clipboard.
  document.addEventListener("change", async (event) => {
    const file = event.target.matches("input[type=file][data-into]") && event.target.files[0];
    if (!file) return;
    const form = event.target.form;
    form.elements[event.target.dataset.into].value = await file.text();
    form.requestSubmit($("button.primary", form));
  });
  document.addEventListener("click", (event) => {
    const field = event.target.closest("[data-copy]") && $(event.target.closest("[data-copy]").dataset.copy);
    if (!field) return;
    field.select();
    navigator.clipboard?.writeText(field.value);
  });

  // The editor: verdict and picture follow the text.
  const live = $("form[data-live]");
  if (live && dash) {
    let timer = 0;
    let last = null;
    const draw = async () => {
      last?.abort();
      last = new AbortController();
      dash.classList.add("busy");
      try {
        const response = await fetch(live.dataset.live, { method: "POST", body: new URLSearchParams(new FormData(live)), signal: last.signal });
        if (!response.ok) return;
        const html = await response.text();
        const scrolled = dash.scrollTop;
        clearAll();
        plots.clear();
        // What cannot be read leaves the picture of the text before it.
        const next = element("div");
        next.innerHTML = html;
        const isWrong = !!$("#verdict [role=alert]", next);
        if (isWrong) $("#verdict", dash).replaceWith($("#verdict", next));
        else dash.replaceChildren(...next.childNodes);
        $$(".panel", dash).forEach(setUp);
        dash.scrollTop = scrolled;
      } catch (error) {
        if (error.name !== "AbortError") throw error;
      } finally {
        dash.classList.remove("busy");
      }
    };
    live.addEventListener("input", (event) => {
      if (event.target.name !== "json") return;
      clearTimeout(timer);
      timer = setTimeout(draw, 350);
    });
    // A tab belongs to the text.
    live.elements.json.addEventListener("keydown", (event) => {
      if (event.key !== "Tab" || event.shiftKey || event.ctrlKey) return;
      event.preventDefault();
      const area = event.target;
      area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
    });
  }

  if (!dash) return;
  $$(".panel", dash).forEach(setUp);
  if (state.zoneIsBrowsers && state.zone !== zone) {
    state.zone = zone;
    refresh();
  } else if (state.path && state.path !== base + "/explore") {
    // The first drawing was for a page of usual width; where a plot's true width is far from that, ask again.
    for (const panel of $$(".panel", dash)) {
      const marks = $(".graph", panel);
      const ratio = dash.clientWidth / 1408;
      if (marks && (ratio < 0.75 || ratio > 1.35)) isSeen(panel) ? load(panel) : waiting.add(panel);
    }
  }
  addEventListener("scroll", follow, { passive: true });
  let resized = 0;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(resized);
    resized = setTimeout(refresh, 400);
  });
  if (state.refresh > 0) setInterval(refresh, state.refresh);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && state.refresh > 0) refresh(); });
})();
