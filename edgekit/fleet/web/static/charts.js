// A board's charts: uPlot on what the API gives, events on the time axis, the range in the address.
"use strict";
(function () {
  const box = document.getElementById("charts");
  if (!box) return;
  const api = "/api/v1/boards/" + encodeURIComponent(box.dataset.site) + "/" + encodeURIComponent(box.dataset.device);
  const SPANS = { "15m": 9e5, "1h": 36e5, "6h": 216e5, "24h": 864e5, "7d": 6048e5, "30d": 2592e6 };
  let span = { from: +box.dataset.from, to: +box.dataset.to, live: box.dataset.live === "yes" };
  let data = null, plots = [];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const query = () => span.live ? "range=" + box.dataset.range : "from=" + span.from + "&to=" + span.to;
  const events = () => [...document.querySelectorAll("#event-list li[data-at]")].map((li) => ({ at: +li.dataset.at / 1000, kind: li.dataset.kind }));

  const two = (n) => String(n).padStart(2, "0");
  const clock = (s) => { const d = new Date(s * 1000); return two(d.getHours()) + ":" + two(d.getMinutes()) + (d.getSeconds() ? ":" + two(d.getSeconds()) : ""); };
  const day = (s) => new Date(s * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" });

  function limits() {
    return span.live ? [(Date.now() - SPANS[box.dataset.range]) / 1000, Date.now() / 1000] : [span.from / 1000, span.to / 1000];
  }

  function drawEvents(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("critical");
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const event of events()) {
      const x = Math.round(plot.valToPos(event.at, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.globalAlpha = 0.5;
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      ctx.globalAlpha = 1;
      const s = 4 * devicePixelRatio, y = bbox.top + bbox.height;
      ctx.beginPath(); ctx.moveTo(x, y - 2 * s); ctx.lineTo(x - s, y); ctx.lineTo(x + s, y); ctx.fill();
    }
    ctx.restore();
  }

  function chosen(plot) {
    if (plot.select.width < 8) return;
    const from = Math.round(plot.posToVal(plot.select.left, "x") * 1000), to = Math.round(plot.posToVal(plot.select.left + plot.select.width, "x") * 1000);
    if (to - from < 2000) return;
    location.assign("?from=" + from + "&to=" + to);
  }

  function plot(name, columns, series, unit) {
    const place = box.querySelector('[data-chart="' + name + '"]');
    place.replaceChildren();
    if (!columns[0].length || !columns.slice(1).some((column) => column.some((value) => value !== null))) {
      const none = document.createElement("p");
      none.className = "none";
      none.textContent = columns[0].length ? "Not measured on this board." : "Nothing was measured in this range.";
      place.append(none);
      return null;
    }
    const grid = { stroke: colour("line"), width: 1 }, axis = { stroke: colour("dim"), grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const made = new uPlot({
      width: Math.max(200, place.clientWidth), height: 176, ms: 1e-3,
      scales: { x: { time: true, range: limits }, y: { range: (u, low, high) => name === "temperature" ? [Math.min(low === null ? 20 : low - 2, 40), Math.max(high === null ? 60 : high + 2, 60)] : [0, high ? high * 1.12 : 1] } },
      axes: [{ ...axis, size: 30, values: (u, at) => at.map(u.scales.x.max - u.scales.x.min > 180000 ? day : clock) }, { ...axis, size: 46, values: (u, ticks) => ticks.map((tick) => tick + "") }],
      series: [{ value: (u, v) => v === null ? "" : new Date(v * 1000).toLocaleString() }, ...series.map((one) => ({ width: 1.6, spanGaps: false, points: { size: 4, show: (u, i) => columns[0].length < 60 }, value: (u, v) => v === null || v === undefined ? "–" : v.toFixed(1) + unit, ...one }))],
      bands: name === "fps" ? [{ series: [2, 3], fill: colour("fps") + "22" }] : [],
      cursor: { sync: { key: "board" }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
      legend: { live: true },
      hooks: { draw: [drawEvents], setSelect: [chosen] },
    }, columns, place);
    return made;
  }

  function draw() {
    if (!data) return;
    plots.forEach((made) => made && made.destroy());
    plots = [
      plot("fps", [data.at, data.fps, data.fps_max, data.fps_min], [{ label: "FPS", stroke: colour("fps") }, { label: "most", width: 0, points: { show: false } }, { label: "least", width: 0, points: { show: false } }], ""),
      plot("latency", [data.at, data.p50_ms, data.p95_ms], [{ label: "p50", stroke: colour("ms") }, { label: "p95", stroke: colour("ms"), dash: [5, 4] }], " ms"),
      plot("temperature", [data.temp_at, data.temp_c], [{ label: "°C", stroke: colour("hot") }], " °C"),
    ];
  }

  async function load() {
    const answer = await fetch(api + "/series?" + query());
    if (!answer.ok) return;
    data = await answer.json();
    draw();
    box.dataset.drawn = "yes";
  }

  function append(now) {
    if (!data || !span.live || now.at === null) return;
    const at = now.at / 1000, last = data.at[data.at.length - 1];
    if (last !== undefined && at <= last || data.step_ms) return;
    const most = data.at.length + 1, from = limits()[0];
    for (const [name, value] of [["at", at], ["fps", now.fps], ["fps_min", now.fps], ["fps_max", now.fps], ["p50_ms", now.p50_ms], ["p95_ms", now.p95_ms], ["temp_at", at], ["temp_c", now.temp_c]]) data[name].push(value);
    let old = 0;
    while (old < most && data.at[old] < from) old++;
    if (old > 50) for (const name of ["at", "fps", "fps_min", "fps_max", "p50_ms", "p95_ms"]) data[name].splice(0, old);
    if (!plots[0] || !plots[1]) { draw(); return; }
    plots[0].setData([data.at, data.fps, data.fps_max, data.fps_min]);
    plots[1].setData([data.at, data.p50_ms, data.p95_ms]);
    if (plots[2]) plots[2].setData([data.temp_at, data.temp_c]); else if (now.temp_c !== null) draw();
  }

  document.addEventListener("edgekit:now", (event) => append(event.detail));
  // Rolled-up ranges move slowly: look again now and then instead of appending.
  setInterval(() => { if (data && span.live && data.step_ms && !document.hidden) load(); }, 60000);
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    plots.forEach((made) => made && made.setSize({ width: Math.max(200, made.root.parentNode.clientWidth), height: 176 }));
  }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  load();
})();
