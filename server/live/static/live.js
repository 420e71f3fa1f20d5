// The page of the live view. Names come from files of others: text goes in as text, never as markup.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const MOST_ROWS = 200;
  const MARKS = { unknown: "unknown", well: "well", working: "working", missing: "missing", out: "out" };
  const PHASES = {
    waiting: "waiting", began: "joining", rounds: "running", finished: "finished",
    interrupted: "interrupted", stopped: "stopped", failed: "failed",
  };
  let curves = [];
  let points = [];
  let view = null;
  let source = null;
  let spoken = { phase: null, refused: null, tenth: null };

  // ---- text

  const fixed = (number, digits) => (number == null ? "" : number.toFixed(digits));
  const grouped = (number) => (number == null ? "" : Math.round(number).toLocaleString("en-US"));
  const bytes = (number) => (number == null ? "" : `${(number / 1000).toFixed(1)} kB`);
  const clock = (iso) => (iso ? iso.replace("T", " ").replace("Z", "") : "");

  function put(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function mark(node, name, value) {
    if (value == null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }

  // Rows and cells are kept and filled anew, so that neither focus nor a reader's place is lost.
  function fill(body, rows) {
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((cells, place) => {
      const row = body.rows[place] || body.insertRow();
      cells.forEach((cell, column) => {
        const { text, kind, head, state } = typeof cell === "object" ? cell : { text: cell };
        let node = row.cells[column];
        if (!node) {
          node = document.createElement(head ? "th" : "td");
          if (head) node.scope = "row";
          row.append(node);
        }
        put(node, String(text));
        if (node.className !== (kind || "")) node.className = kind || "";
        mark(node, "data-mark", state);
      });
    });
  }

  function facts(list, pairs) {
    while (list.children.length > pairs.length) list.lastElementChild.remove();
    pairs.forEach(([name, value, beside], place) => {
      let group = list.children[place];
      if (!group) {
        group = document.createElement("div");
        const value = document.createElement("dd");
        value.append(document.createElement("span"), " ", document.createElement("small"));
        group.append(document.createElement("dt"), value);
        list.append(group);
      }
      put(group.querySelector("dt"), name);
      put(group.querySelector("span"), value);
      put(group.querySelector("small"), beside || "");
    });
  }

  // ---- charts

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const CHARTS = [
    { title: "ROC-AUC on validation rows", unit: "", columns: ["auc_validation"], sd: "auc_validation_sd", colour: "--line-1", dots: true, show: (v) => v.toFixed(4), tick: (v) => v.toFixed(3) },
    { title: "Sparsity", unit: "%", columns: ["sparsity"], scale: 100, colour: "--line-2", from: [0, 100], show: (v) => `${v.toFixed(1)} %`, tick: (v) => `${v} %` },
    { title: "Sent by an institution, a round", unit: "kB", columns: ["bytes_up"], scale: 0.001, colour: "--line-3", from: [0, null], show: (v) => `${v.toFixed(1)} kB`, tick: (v) => `${v} kB` },
    { title: "Institutions in the sum", unit: "", columns: ["survivors"], colour: "--line-4", from: [0, null], show: (v) => String(v), tick: (v) => (Number.isInteger(v) ? String(v) : "") },
  ];

  function build(chart) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("h3");
    chart.said = document.createElement("p");
    chart.box = document.createElement("div");
    chart.box.className = "plot";
    chart.box.setAttribute("role", "img");
    title.textContent = chart.title;
    caption.append(title, chart.said);
    figure.append(caption, chart.box);
    $("curves").append(figure);
    new ResizeObserver(() => {
      if (chart.plot) chart.plot.setSize({ width: chart.box.clientWidth, height: 200 });
    }).observe(chart.box);
  }

  function range(chart, low, high) {
    let [from, to] = chart.from || [null, null];
    if (low == null) [low, high] = [0, 1];
    const room = (high - low) * 0.08 || 0.01;
    from = from ?? low - room;
    to = to ?? high + room;
    return [from, to];
  }

  function draw(chart) {
    if (chart.plot) chart.plot.destroy();
    const quiet = style("--quiet");
    const axis = { stroke: quiet, font: "12px system-ui, sans-serif", grid: { stroke: style("--line"), width: 1 }, ticks: { show: false } };
    const line = { stroke: style(chart.colour), width: 2, spanGaps: true, points: { show: chart.dots ? true : undefined, size: 6, fill: style(chart.colour) } };
    const edge = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
    chart.plot = new uPlot({
      width: chart.box.clientWidth || 320,
      height: 200,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false },
      scales: { x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) }, y: { range: (_, low, high) => range(chart, low, high) } },
      axes: [
        { ...axis, size: 26, gap: 4, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], values: (_, all) => all.map(String) },
        { ...axis, size: 58, gap: 4, values: (_, all) => all.map(chart.tick) },
      ],
      series: chart.sd ? [{}, line, edge, edge] : [{}, line],
      bands: chart.sd ? [{ series: [3, 2], fill: style("--band") }] : [],
      hooks: { setCursor: [(plot) => under(chart, plot.cursor.idx)] },
    }, data(chart), chart.box);
  }

  function data(chart) {
    const at = (name) => curves.indexOf(name);
    const scale = chart.scale || 1;
    // The final evaluation has no vector of its own to show.
    const rows = points.filter((row) => chart.dots || row[at("bytes_up")] > 0);
    const of = (row, name) => (row[at(name)] == null ? null : row[at(name)] * scale);
    const value = rows.map((row) => of(row, chart.columns[0]));
    const series = [rows.map((row) => row[0]), value];
    if (chart.sd) {
      for (const sign of [-1, 1]) {
        series.push(rows.map((row, place) => (value[place] == null ? null : value[place] + sign * (of(row, chart.sd) || 0))));
      }
    }
    return series;
  }

  function under(chart, index) {
    const [rounds, values, , high] = chart.plot.data;
    let place = index;
    if (place == null) place = values.findLastIndex((value) => value != null);
    else while (place > 0 && values[place] == null) place -= 1;
    if (place < 0 || values[place] == null) {
      put(chart.said, "nothing yet");
      return;
    }
    const sd = high ? ` ± ${(high[place] - values[place]).toFixed(4)}` : "";
    put(chart.said, `round ${rounds[place]}: ${chart.show(values[place])}${sd}`);
  }

  function renew(chart) {
    if (!chart.plot) draw(chart);
    else chart.plot.setData(data(chart));
    under(chart, chart.plot.cursor.idx);
    const [rounds, values] = chart.plot.data;
    const known = values.filter((value) => value != null);
    const told = known.length
      ? `${known.length} rounds from ${rounds[0]} to ${rounds.at(-1)}, from ${chart.show(known[0])} to ${chart.show(known.at(-1))}, lowest ${chart.show(known.reduce((a, b) => Math.min(a, b)))}, highest ${chart.show(known.reduce((a, b) => Math.max(a, b)))}`
      : "nothing yet";
    mark(chart.box, "aria-label", `${chart.title} by round: ${told}. The table below has the numbers.`);
  }

  // ---- the run

  function show() {
    const { plan } = view;
    document.title = `${view.name}: ${PHASES[view.phase]} – fedprune live view`;
    $("problem").hidden = !view.problem;
    put($("problem"), view.problem);
    $("simulated").hidden = !view.simulated;
    put($("phase"), PHASES[view.phase]);
    mark($("phase"), "data-state", view.phase);
    const round = view.round != null && view.phase === "rounds" ? `round ${view.round}: ` : "";
    put($("stage"), view.stage === PHASES[view.phase] ? "" : round + view.stage);
    const total = view.rounds || 0;
    const bar = $("progress");
    bar.max = total || 1;
    bar.value = view.done;
    put($("progress-text"), total ? `${view.done} of ${total} training rounds are over` : "no plan yet");
    const { latest, evaluated, test } = view;
    const figures = [
      ["ROC-AUC, validation", fixed(evaluated.auc_validation, 4) || "–", evaluated.auc_validation_sd ? `± ${fixed(evaluated.auc_validation_sd, 4)}` : ""],
      ["Sparsity", latest.sparsity == null ? "–" : `${fixed(100 * latest.sparsity, 1)} %`, plan && typeof plan.sparsity === "number" ? `of ${fixed(100 * plan.sparsity, 0)} %` : ""],
      ["In the last sum", latest.survivors == null ? "–" : String(latest.survivors), plan ? `of ${plan.institutions}, threshold ${plan.threshold}` : ""],
      ["Up, an institution", bytes(latest.bytes_up) || "–", "last round"],
      ["Time of the last round", latest.seconds == null ? "–" : `${fixed(latest.seconds, 2)} s`, ""],
    ];
    if (test.auc != null) figures.push(["ROC-AUC, test, exact", fixed(test.auc, 4), test.auc_dense != null ? `dense ${fixed(test.auc_dense, 4)}` : ""]);
    facts($("figures"), figures);
    showMembers();
    showTables();
    showPlan();
    speak();
  }

  function showMembers() {
    const members = view.institutions;
    const sums = view.counted ? `${view.counted} rounds` : "";
    const connected = view.connected == null ? "Nobody tells who is connected." : `${view.connected} of ${members.length} are connected.`;
    const missing = members.filter((one) => one.state === "missing" || one.state === "out").map((one) => one.name);
    const named = missing.length > 5 ? `${missing.slice(0, 5).join(", ")} and ${missing.length - 5} more` : missing.join(", ");
    put($("members-said"), `${members.length} institutions. ${connected}${named ? ` Not in the last sum: ${named}.` : ""}${view.counted ? "" : " Who was in which sum stands in no file of this run."}`);
    fill($("members"), members.map((one) => [
      { text: one.name, head: true },
      { text: one.words, state: MARKS[one.state] },
      { text: one.connection ? `${one.connection}${one.since ? ` since ${clock(one.since).slice(0, 16)}` : ""}` : "–", kind: "nowrap" },
      { text: sums ? `${one.rounds} of ${view.counted}` : "–", kind: "number nowrap" },
      { text: grouped(one.size), kind: "number" },
      one.refusal || "–",
    ]));
  }

  function showTables() {
    $("groups-section").hidden = !view.groups.length;
    fill($("groups"), view.groups.map((one) => [
      { text: one.group, head: true }, one.part, { text: one.round, kind: "number" },
      { text: fixed(one.auc, 4) || "–", kind: "number" }, { text: fixed(one.sd, 4) || "–", kind: "number" },
    ]));
    const silent = "There is no audit log beside this run; simulations keep none.";
    put($("refusals-said"), view.audited ? (view.refused ? `${view.refused} in the end of the log that was read, of all runs.` : "None.") : silent);
    $("refusals-box").hidden = !view.refusals.length;
    fill($("refusals"), view.refusals.map((one) => [
      { text: clock(one.time), kind: "nowrap" }, one.who || "server", one.what, one.told,
    ]));
    put($("audit-said"), view.audited ? "Of the server, over all runs, times in UTC; shown, not verified: fedprune-server audit verify does that." : silent);
    $("audit-box").hidden = !view.audit.length;
    fill($("audit"), view.audit.map((one) => [
      { text: one.sequence, kind: "number" }, { text: clock(one.time), kind: "nowrap" },
      { text: one.event, kind: "nowrap" }, { text: one.said, kind: "long" },
    ]));
  }

  function showPlan() {
    const { plan } = view;
    const pairs = plan ? [
      ["Plan", plan.name], ["Its hash", plan.digest], ["Model", plan.model],
      ["Epsilon, delta", plan.epsilon === "none" ? "none: NO differential privacy" : `${plan.epsilon}, ${plan.delta} for a ${plan.unit}`],
      ["Noise", plan.noise], ["Aggregation", plan.aggregation === "secure" ? "secure" : "plain: the server sees every update"],
      ["Pruning", `${plan.sparsity} by ${plan.score}`],
    ] : [];
    for (const one of view.processes) pairs.push([`Process ${one.name}`, one.said]);
    pairs.push(["Files changed last", view.changed ? new Date(1000 * view.changed).toLocaleString("en-GB") : "–"]);
    if (view.unread) pairs.push(["Lines that could not be read", String(view.unread)]);
    facts($("plan"), pairs);
  }

  function showPoints() {
    CHARTS.forEach(renew);
    const shown = points.slice(-MOST_ROWS).reverse();
    fill($("points"), shown.map((row) => row.map((cell, column) => {
      const text = cell == null ? "" : Number.isInteger(cell) ? String(cell) : cell.toFixed(4);
      return { text, kind: "number", head: column === 0 };
    })));
    $("points-more").hidden = points.length <= MOST_ROWS;
    put($("points-more"), `The latest ${MOST_ROWS} of ${points.length}; rounds.csv has all.`);
  }

  // What changes with every round is not read out: only phases, tenths of the run, and refusals.
  function speak() {
    const tenth = view.rounds ? Math.floor((10 * view.done) / view.rounds) : 0;
    const now = { phase: view.phase, refused: view.refused, tenth };
    const words = [];
    if (now.phase !== spoken.phase) words.push(`Run ${view.name} is ${PHASES[view.phase]}.`);
    else if (tenth !== spoken.tenth) words.push(`${view.done} of ${view.rounds} rounds are over.`);
    if (spoken.refused != null && now.refused > spoken.refused) words.push(`${now.refused - spoken.refused} new refusals.`);
    spoken = now;
    if (words.length) put($("said"), words.join(" "));
  }

  function link(state, text) {
    mark($("link"), "data-state", state);
    put($("link"), text);
  }

  function follow(name) {
    if (source) source.close();
    points = [];
    view = null;
    spoken = { phase: null, refused: null, tenth: null };
    source = new EventSource(`/api/runs/${encodeURIComponent(name)}/events`);
    source.addEventListener("open", () => link("live", "live"));
    source.addEventListener("error", () => {
      link("lost", "connection lost, trying again");
      put($("said"), "The connection is lost.");
      // A browser gives up on an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(name), 5000);
    });
    source.addEventListener("look", (message) => {
      const look = JSON.parse(message.data);
      const fresh = look.points.length || look.from !== points.length || view == null;
      points = points.slice(0, look.from).concat(look.points);
      view = look.view;
      show();
      if (fresh) showPoints();
    });
  }

  async function list() {
    const select = $("runs");
    let found;
    try {
      const answer = await fetch("/api/runs");
      if (!answer.ok) throw new Error(answer.status);
      found = await answer.json();
    } catch {
      link("lost", "connection lost, trying again");
      return;
    }
    if (!curves.length) {
      curves = found.curves;
      const names = { round: "Round", survivors: "Institutions", sparsity: "Sparsity", auc_validation: "ROC-AUC", auc_validation_sd: "sd", bytes_up: "Bytes up", bytes_down: "Bytes down", seconds: "Seconds" };
      for (const name of curves) {
        const head = document.createElement("th");
        head.scope = "col";
        head.className = "number";
        head.textContent = names[name] || name;
        $("points-head").append(head);
      }
    }
    const chosen = select.value;
    // By name, so that the list does not move under whoever reads it.
    const runs = [...found.runs].sort((a, b) => (a.name < b.name ? -1 : 1));
    while (select.options.length > runs.length) select.remove(select.options.length - 1);
    runs.forEach((run, place) => {
      const option = select.options[place] || select.appendChild(document.createElement("option"));
      put(option, run.name + (run.over ? " (over)" : ""));
      option.value = run.name;
    });
    if (!runs.length) {
      put($("stage"), "there is no run here yet");
      link("live", "waiting for a run");
      return;
    }
    const wanted = chosen || decodeURIComponent(location.hash.slice(1));
    const name = runs.some((run) => run.name === wanted) ? wanted : found.runs[0].name;
    select.value = name;
    if (!source || name !== chosen) follow(name);
  }

  CHARTS.forEach(build);
  $("runs").addEventListener("change", (event) => {
    history.replaceState(null, "", `#${encodeURIComponent(event.target.value)}`);
    follow(event.target.value);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const chart of CHARTS) if (chart.plot) draw(chart);
  });
  list();
  setInterval(() => { if (!document.hidden) list(); }, 10000);
})();
