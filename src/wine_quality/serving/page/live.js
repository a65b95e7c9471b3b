// Asks for the figures once a second. The service gives counts that only grow, over all workers;
// rates and percentiles are made here of the differences between two answers.
"use strict";

const KEPT = 300;         // seconds that the charts show
const LATENCY_OVER = 10;  // seconds that a percentile is made of
const samples = [];
const $ = (id) => document.getElementById(id);
const store = (() => {    // a browser may forbid storage; the key is then asked for again
  try { return window.sessionStorage; } catch { return new Map(); }
})();
let key = store.getItem ? store.getItem("key") || "" : "";

function element(name, attributes = {}, text = "") {
  const svg = ["path", "rect", "line", "text", "svg"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
  if (text !== "") made.textContent = text;
  return made;
}

const short = (x, digits = 1) => x === null || !isFinite(x) ? "–"
  : x >= 1000 ? Math.round(x).toLocaleString("en") : x >= 100 ? x.toFixed(0) : x.toFixed(digits);
const clock = (text) => text ? new Date(text).toLocaleTimeString([], { hour12: false }) : "–";

// Differences

function total(requests, wanted) {
  return Object.entries(requests).reduce((sum, [status, n]) => sum + (wanted(+status) ? n : 0), 0);
}

function difference(now, then) {
  const seconds = now.monotonic - then.monotonic;
  const count = (wanted) =>
    Math.max(0, total(now.counters.requests, wanted) - total(then.counters.requests, wanted)) / seconds;
  return {
    at: now.monotonic,
    rps: count(() => true),
    refused: count((s) => s >= 400 && s < 500),
    failed: count((s) => s >= 500),
    wps: Math.max(0, now.counters.predictions - then.counters.predictions) / seconds,
  };
}

// A percentile of what fell into the buckets between two answers, linear within its bucket.
function percentile(now, then, q) {
  const bounds = now.counters.latency_bounds_ms;
  const old = then.counters.latency_counts;
  const counts = now.counters.latency_counts.map((n, i) => n - (old[i] || 0));
  const all = counts[counts.length - 1];
  if (!(all > 0)) return null;
  const i = counts.findIndex((n) => n >= q * all);
  const low = i ? bounds[i - 1] : 0;
  if (bounds[i] === null) return low;
  const before = i ? counts[i - 1] : 0;
  return low + (bounds[i] - low) * (q * all - before) / (counts[i] - before || 1);
}

// Charts

const EDGE = { left: 38, right: 8, top: 8, bottom: 18 };

function frame(svg, top, labels) {
  const width = svg.clientWidth, height = svg.clientHeight;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const x = (t) => EDGE.left + t * (width - EDGE.left - EDGE.right);
  const y = (v) => height - EDGE.bottom - (v / top) * (height - EDGE.top - EDGE.bottom);
  for (const v of [0, top / 2, top]) {
    svg.append(element("line", { class: "axis", x1: x(0), x2: x(1), y1: y(v), y2: y(v) }));
    svg.append(element("text", { x: EDGE.left - 5, y: y(v) + 4, "text-anchor": "end" }, short(v, top < 3 ? 2 : 0)));
  }
  labels.forEach(([t, text]) => svg.append(element("text",
    { x: x(t), y: height - 4, "text-anchor": t === 0 ? "start" : t === 1 ? "end" : "middle" }, text)));
  return { x, y };
}

// The least 'round' number that is not below x: 1, 2 or 5 times a power of ten.
function roundUp(x) {
  if (!(x > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(x));
  return [1, 2, 5, 10].map((m) => m * power).find((v) => v >= x * 0.999);
}

function path(svg, scale, points, name) {
  let d = "", pen = "M";
  for (const [t, v] of points) {
    if (v === null) { pen = "M"; continue; }
    d += `${pen}${scale.x(t).toFixed(1)},${scale.y(v).toFixed(1)}`;
    pen = "L";
  }
  svg.append(element("path", { class: name, d }));
}

function overTime(svg, series) {
  const now = samples.length ? samples[samples.length - 1].at : 0;
  const values = series.flatMap(({ name }) => samples.map((s) => s[name])).filter((v) => v !== null);
  if (!values.length) {  // a rate takes two answers, a percentile takes requests
    svg.replaceChildren(element("text", { x: "50%", y: "50%", "text-anchor": "middle" }, "waiting"));
    return;
  }
  const scale = frame(svg, roundUp(Math.max(...values, 0)), [[0, `${KEPT / 60} min ago`], [1, "now"]]);
  for (const { name, style } of series)
    path(svg, scale, samples.map((s) => [1 - (now - s.at) / KEPT, s[name]]), style);
}

function histogram(svg, found) {
  const edges = found.edges, span = edges[edges.length - 1] - edges[0];
  const t = (v) => (v - edges[0]) / span;
  const top = roundUp(100 * Math.max(...found.now, ...(found.reference || [])));
  const scale = frame(svg, top, [3, 4, 5, 6, 7, 8, 9].filter((q) => t(q) < 1).map((q) => [t(q), q]));
  found.now.forEach((share, i) => svg.append(element("rect", {
    class: "bar", x: scale.x(t(edges[i])) + 1, y: scale.y(100 * share),
    width: Math.max(0, scale.x(t(edges[i + 1])) - scale.x(t(edges[i])) - 2),
    height: Math.max(0, scale.y(0) - scale.y(100 * share)) })));
  if (found.reference)
    path(svg, scale, found.reference.flatMap((s, i) => [[t(edges[i]), 100 * s], [t(edges[i + 1]), 100 * s]]), "b");
}

function showError(found) {
  $("error-reason").textContent = found.reason;
  $("error-n").textContent = found.n ? `last ${found.n.toLocaleString("en")} labels, mean of ${found.width.toLocaleString("en")}` : "";
  const values = [...(found.mae || []), found.reference_mae || 0];
  const scale = frame($("error"), roundUp(Math.max(...values)), [[0, "older labels"], [1, "newest"]]);
  if (!found.n) return;
  const last = Math.max(1, found.mae.length - 1);
  path($("error"), scale, found.mae.map((v, i) => [i / last, v]), "a");
  if (found.reference_mae !== null)
    path($("error"), scale, [[0, found.reference_mae], [1, found.reference_mae]], "b");
}

function showDrift(found, rate) {
  $("drift-n").textContent = found.n
    ? `newest ${found.n.toLocaleString("en")} wines, since ${clock(found.since)}; line: threshold at ${100 * rate} % false alarms`
    : found.reason;
  $("drift").replaceChildren(...(found.columns || []).map((c) => {
    const row = element("div", { class: `row ${c.verdict}`, title: c.reason });
    row.append(element("span", {}, c.column.replaceAll("_", " ") + (c.unit ? ` (${c.unit})` : "")));
    const track = element("div", { class: "track" });
    const bar = element("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none" });
    if (c.value !== null && c.threshold) {
      // the threshold stands at a third; the scale bends so that a huge score still fits
      const place = (v) => 100 * (1 - Math.exp(-Math.max(0, v) / c.threshold * 0.405));
      bar.append(element("rect", { x: 0, y: 0, height: 10, width: place(c.value) }));
      bar.append(element("line", { x1: place(c.threshold), x2: place(c.threshold), y1: 0, y2: 10, "vector-effect": "non-scaling-stroke" }));
    }
    track.append(bar);
    row.append(track, element("span", { class: "verdict" }, c.verdict.replaceAll("_", " ")));
    if (c.verdict === "drift" || c.verdict === "data_quality")
      row.append(element("p", { class: "reason" }, c.reason));
    return row;
  }));
}

function showChallenger(data) {
  const c = data.challenger, pairs = data.pairs;
  $("challenger").hidden = !c;
  if (!c) return;
  const percent = (share) => `${+(100 * share).toPrecision(3)} %`;
  $("challenger-version").textContent = (c.version ? `version ${c.version.version}, since ${clock(c.version.since)}` : "none")
    + `; shadow of ${percent(c.shadow_share)} of the requests, answers ${percent(c.canary_share)} of the clients`;
  for (const fate of ["written", "dropped", "failed"]) $(`shadow-${fate}`).textContent = short(data.counters.shadow[fate] || 0, 0);
  $("canary-fallbacks").textContent = short(data.counters.canary_fallbacks, 0);
  const signed = (x) => x === null ? "–" : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(3);
  $("pairs-difference").textContent = pairs ? signed(pairs.mean_difference) : "–";
  $("pairs-distance").textContent = pairs && pairs.mean_distance !== null ? pairs.mean_distance.toFixed(3) : "–";
  const many = (n) => n.toLocaleString("en");
  $("pairs-error").textContent = !pairs ? ""
    : `Challenger less champion, on ${many(pairs.n)} of the newest wines. `
      + (pairs.labelled
        ? `Mean absolute error on the same ${many(pairs.labelled)} labelled wines: champion ${pairs.mae.toFixed(3)}, challenger ${pairs.challenger_mae.toFixed(3)}.`
        : "No labels of these wines yet.");
  $("challenger-trouble").hidden = !c.trouble;
  $("challenger-trouble").textContent = c.trouble;
}

function showVersions(data) {
  const head = element("tr");
  for (const name of ["version", "wines of the newest", "first", "last", "what happened"]) head.append(element("th", {}, name));
  const events = [...(data.model ? data.model.events : []), ...(data.challenger ? data.challenger.events : [])];
  const names = [...new Set([...(data.versions || []).map((v) => v.version), ...events.map((e) => e.version)])];
  $("versions").replaceChildren(head, ...names.map((name) => {
    const seen = (data.versions || []).find((v) => v.version === name);
    const own = events.filter((e) => e.version === name);
    const row = element("tr");
    for (const text of [name, seen ? seen.n.toLocaleString("en") : "–", clock(seen && seen.first), clock(seen && seen.last),
      own.map((e) => `${e.kind} ${clock(e.at)}${e.reason ? ": " + e.reason : ""}`).join("; ") || "–"])
      row.append(element("td", {}, text));
    return row;
  }));
}

function showModel(data) {
  const m = data.model;
  $("model").textContent = m
    ? `${m.name} version ${m.version} (${m.alias}) by ${m.runtime === "onnx" ? "ONNX Runtime" : "scikit-learn"}, since ${clock(m.since)}`
      + (m.metrics.mae ? `; held-out MAE ${m.metrics.mae.toFixed(3)}` : "")
    : "no model";
  const trouble = data.log_trouble || (m ? "" : data.model_trouble) || (m && m.refused ? m.refused.reason : "");
  $("alert").hidden = !trouble;
  $("alert").textContent = trouble;
  const subjects = (data.drift || {}).columns || [];
  const drifted = subjects.filter((c) => c.verdict === "drift");
  const faulty = subjects.some((c) => c.verdict === "data_quality");
  const decayed = (data.error || {}).verdict === "decayed";
  // the first that holds
  const [, word, style] = [
    [data.log_trouble || !m, "not ready", "bad"],
    [drifted.length, `drift in ${drifted.length} column${drifted.length > 1 ? "s" : ""}`, "bad"],
    [decayed, "model decayed", "bad"],
    [faulty, "data quality", "warn"],
    [trouble, "refused a version", "warn"],
    [true, "running", "ok"],
  ].find(([holds]) => holds);
  $("state").textContent = word;
  $("state").className = `badge ${style}`;
}

// One answer after the other

const answers = [];

function show(data) {
  const last = answers[answers.length - 1];
  // counts that fall come from a service that was started anew
  if (last && data.counters.predictions < last.counters.predictions) { answers.length = 0; samples.length = 0; }
  answers.push(data);
  while (data.monotonic - answers[0].monotonic > LATENCY_OVER && answers.length > 2) answers.shift();
  if (last && answers.length > 1 && data.monotonic > last.monotonic) {
    const sample = difference(data, last);
    sample.p50 = percentile(data, answers[0], 0.5);
    sample.p99 = percentile(data, answers[0], 0.99);
    samples.push(sample);
    while (sample.at - samples[0].at > KEPT) samples.shift();
    for (const name of ["rps", "wps", "p50", "p99", "refused", "failed"]) $(name).textContent = short(sample[name]);
  }
  overTime($("rate"), [{ name: "rps", style: "a" }]);
  overTime($("latency"), [{ name: "p50", style: "a" }, { name: "p99", style: "c" }]);
  showModel(data);
  showChallenger(data);
  showVersions(data);
  if (data.predictions) {
    histogram($("predictions"), data.predictions);
    $("predictions-n").textContent = `% of ${data.predictions.n.toLocaleString("en")} wines:`;
  }
  if (data.error) showError(data.error);
  if (data.drift) showDrift(data.drift, data.false_alarm_rate);
  $("at").textContent = `as of ${clock(data.at)}; the log's newest wines of the last ${data.minutes || 10} minutes.`;
}

async function ask() {
  try {
    const answer = await fetch("live/data", {
      headers: key ? { "X-API-Key": key } : {}, signal: AbortSignal.timeout(10000), cache: "no-store" });
    $("key").hidden = answer.status !== 401 && answer.status !== 403;
    if (!answer.ok) throw new Error($("key").hidden ? `the service answered ${answer.status}` : "key needed");
    show(await answer.json());
  } catch (error) {
    $("state").textContent = error.message === "key needed" ? "key needed" : "no answer";
    $("state").className = "badge bad";
  }
  setTimeout(ask, 1000);
}

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = event.target.querySelector("input").value.trim();
  if (store.setItem) store.setItem("key", key);
});
ask();
