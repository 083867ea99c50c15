"use strict";

const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token");
const MOST = 120; // cards of the table view, until more are asked for

let model = null; // variables, layout
let shown = { evidence: {}, changes: [] }; // the case on the page
let past = [], future = []; // cases before, and those that were undone
let answer = null, before = null; // the last two answers
let best = null; // states of the most probable explanation
let chosen = null; // number of the variable in the column of details
let saved = [], limit = MOST, zoom = 1, tableView = false, question = 0;
const cards = new Map();

async function post(path, message) {
  const reply = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Token": token },
    body: JSON.stringify(message),
  });
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.error);
  return value;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- the case ---------------------------------------------------------------------------------

async function ask(next, { remember = true, start = performance.now() } = {}) {
  const number = ++question;
  const explaining = byId("explain").getAttribute("aria-pressed") === "true";
  try {
    const reply = await post("/api/answer", next);
    if (number !== question) return; // a later question overtook this one
    if (reply.impossible) return fail(reply.impossible);
    if (remember) {
      past.push(shown);
      future = [];
    }
    shown = next;
    before = answer;
    answer = reply;
    if (!explaining) best = null;
    byId("error").hidden = true;
    paint();
    requestAnimationFrame(() => setTimeout(() => {
      document.body.dataset.paint = (performance.now() - start).toFixed(1);
      document.body.dataset.answers = String(Number(document.body.dataset.answers || 0) + 1);
    }));
    history.replaceState(null, "", "#" + encodeURIComponent(JSON.stringify(shown)));
    if (explaining) await explain();
  } catch (error) {
    fail(error.message);
  }
}

function fail(text) {
  byId("error").textContent = text;
  byId("error").hidden = false;
  document.body.dataset.failed = text;
}

function withFinding(variable, value) {
  const evidence = { ...shown.evidence };
  if (value === null) delete evidence[variable];
  else evidence[variable] = value;
  return { ...shown, evidence };
}

function withChange(variable, place, value) {
  const others = shown.changes.filter((c) => c[0] !== variable || String(c[1]) !== String(place));
  return { ...shown, changes: value === null ? others : [...others, [variable, place, value]] };
}

function toggle(variable, state) {
  ask(withFinding(variable, shown.evidence[variable] === state ? null : state));
}

function undo() {
  if (!past.length) return;
  future.push(shown);
  ask(past.pop(), { remember: false });
}

function redo() {
  if (!future.length) return;
  past.push(shown);
  ask(future.pop(), { remember: false });
}

async function explain() {
  const reply = await post("/api/explanation", shown);
  if (reply.impossible) return fail(reply.impossible);
  best = reply.states;
  say(`most probable explanation, log probability ${reply.log_prob.toFixed(4)}`);
  byId("figures").dataset.best = reply.log_prob;
  paint();
}

// --- painting ---------------------------------------------------------------------------------

const percent = (p) =>
  p === 0 || p === 1 ? `${100 * p}%` : p < 0.0005 ? "<0.1%" : p > 0.9995 ? ">99.9%" : `${(100 * p).toFixed(1)}%`;

function distance(k) {
  if (!before) return 0;
  return 0.5 * answer.marginals[k].reduce((sum, p, s) => sum + Math.abs(p - before.marginals[k][s]), 0);
}

function cardOf(k) {
  if (cards.has(k)) return cards.get(k);
  const { name, states } = model.variables[k];
  const badge = make("em");
  const title = make("button", { type: "button", textContent: name, title: name });
  title.addEventListener("click", () => choose(k));
  const lines = states.map((label, s) => {
    const fill = make("span", { className: "fill" });
    const tick = make("span", { className: "tick", hidden: true });
    const number = make("span", { className: "number" });
    const button = make("button", { type: "button", className: "state" },
      make("span", { className: "label", textContent: label, title: label }),
      make("span", { className: "track" }, fill, tick), number);
    button.addEventListener("click", () => toggle(k, s));
    return { button, fill, tick, number };
  });
  const element = make("section", { className: "card" }, make("h2", {}, title, badge),
    ...lines.map((line) => line.button));
  element.dataset.variable = k;
  element.setAttribute("aria-label", name);
  const card = { element, badge, lines };
  cards.set(k, card);
  return card;
}

function paintCard(k, most) {
  const { element, badge, lines } = cardOf(k);
  const finding = shown.evidence[k];
  const soft = Array.isArray(finding);
  const mark = soft ? "soft" : finding !== undefined ? "observed" : k === most ? "most" : "";
  element.className = `card ${mark}${matches(k) ? "" : " missed"}`;
  badge.textContent = { soft: "soft evidence", observed: "observed", most: "changed most" }[mark] || "";
  const { name, states } = model.variables[k];
  lines.forEach(({ button, fill, tick, number }, s) => {
    const p = answer.marginals[k][s];
    fill.style.transform = `scaleX(${p})`;
    number.textContent = percent(p);
    tick.hidden = !before;
    if (before) tick.style.left = `${Math.min(62, 64 * before.marginals[k][s])}px`;
    button.setAttribute("aria-pressed", String(finding === s));
    button.setAttribute("aria-label", `${name} ${states[s]} ${percent(p)}`);
    button.classList.toggle("best", best !== null && best[k] === s);
  });
}

function paint() {
  const changes = model.variables.map((_, k) => (k in shown.evidence ? 0 : distance(k)));
  const order = [...changes.keys()].filter((k) => changes[k] > 5e-5).sort((a, b) => changes[b] - changes[a]);
  const most = order.length ? order[0] : null;
  const visible = tableView || !model.layout ? paintList(changes) : paintGraph();
  visible.forEach((k) => paintCard(k, most));
  const count = Object.keys(shown.evidence).length;
  const log = answer.log_evidence;
  const probability = log === null ? "" : `, probability ${Math.exp(log).toPrecision(4)}`;
  byId("figures").textContent = `${count} findings; log P(evidence) = ` +
    `${log === null ? "not known" : (Math.abs(log) < 5e-7 ? 0 : log).toFixed(6)}${probability} (${answer.kind}, ${answer.engine})` +
    (shown.changes.length ? `; ${shown.changes.length} entries of tables changed` : "");
  const list = order.slice(0, 5).map((k) => `${model.variables[k].name} by ${percent(changes[k])}`);
  byId("changes").textContent = list.length ? `changed most by the last step: ${list.join(", ")}` : "";
  say(`log probability of the evidence ${log === null ? "not known" : log.toFixed(3)}. ${byId("changes").textContent}`);
  byId("undo").disabled = !past.length;
  byId("redo").disabled = !future.length;
  if (chosen !== null) paintDetails();
}

function say(text) {
  byId("spoken").textContent = text;
}

const matches = (k) => {
  const words = byId("find").value.trim().toLowerCase();
  const { name, states } = model.variables[k];
  return !words || name.toLowerCase().includes(words) || states.some((s) => s.toLowerCase().includes(words));
};

function paintGraph() {
  let graph = byId("graph");
  if (!graph) {
    graph = drawGraph();
    byId("main").replaceChildren(graph);
  }
  graph.style.transform = `scale(${zoom})`;
  return [...model.variables.keys()];
}

function drawGraph() {
  const graph = make("div", { id: "graph" });
  const [width, height] = model.layout.size;
  Object.assign(graph.style, { width: `${width}px`, height: `${height}px` });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", width + 4);
  svg.setAttribute("height", height + 4);
  svg.setAttribute("aria-hidden", "true");
  for (const [, , points] of model.layout.edges) {
    let [x, y] = points[0], text = `M${x} ${y}`;
    for (const [u, v] of points.slice(1)) {
      const middle = (y + v) / 2;
      text += `C${x} ${middle} ${u} ${middle} ${u} ${v}`;
      [x, y] = [u, v];
    }
    svg.append(shape(text));
    if (model.directed) svg.append(shape(`M${x} ${y}l-4 -8h8z`, "head"));
  }
  graph.append(svg);
  model.layout.nodes.forEach(([x, y, w, h], k) => {
    const { element } = cardOf(k);
    Object.assign(element.style, {
      left: `${x - w / 2}px`, top: `${y - h / 2}px`, width: `${w}px`, height: `${h}px`,
    });
    graph.append(element);
  });
  return graph;
}

function shape(text, name = "") {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", text);
  path.setAttribute("class", name);
  return path;
}

function paintList(changes) {
  let list = byId("list");
  if (!list) {
    list = make("div", { id: "list" });
    const more = make("button", { type: "button", className: "more", id: "more" });
    more.addEventListener("click", () => { limit += MOST; paint(); });
    byId("main").replaceChildren(list, more);
  }
  const keys = [...model.variables.keys()].filter(matches);
  const sort = byId("sort").value;
  if (sort === "change") keys.sort((a, b) => changes[b] - changes[a]);
  if (sort === "name") keys.sort((a, b) => model.variables[a].name.localeCompare(model.variables[b].name));
  const observed = (k) => (k in shown.evidence ? 0 : 1);
  keys.sort((a, b) => observed(a) - observed(b));
  const visible = keys.slice(0, limit);
  arrange(list, visible.map((k) => cardOf(k).element));
  byId("more").hidden = keys.length <= limit;
  byId("more").textContent = `show more of ${keys.length} variables`;
  return visible;
}

// Elements that are where they should be are left there: a list that is laid out anew is slow.
function arrange(list, wanted) {
  const focused = document.activeElement;
  wanted.forEach((element, i) => {
    if (list.children[i] === element) return;
    Object.assign(element.style, { left: "", top: "", width: "", height: "" });
    list.insertBefore(element, list.children[i] || null);
  });
  while (list.childElementCount > wanted.length) list.lastElementChild.remove();
  if (focused && focused !== document.activeElement && list.contains(focused)) focused.focus();
}

// --- details of one variable: soft evidence, table ------------------------------------------------

function choose(k) {
  chosen = k;
  byId("details").hidden = false;
  paintDetails(true);
  byId("details").querySelector("h2").focus();
}

function paintDetails(anew = false) {
  const aside = byId("details");
  const key = `${chosen} ${JSON.stringify(shown.changes)}`;
  if (!anew && aside.dataset.key === key) return;
  aside.dataset.key = key;
  const { name } = model.variables[chosen];
  const close = make("button", { type: "button", textContent: "Close" });
  close.addEventListener("click", () => { aside.hidden = true; chosen = null; });
  aside.replaceChildren(make("h2", { textContent: name, tabIndex: -1 }), close, ...sliders());
  if (model.tables) table(chosen);
}

function sliders() {
  const { name, states } = model.variables[chosen];
  const finding = shown.evidence[chosen];
  const inputs = states.map((label, s) => {
    const value = Array.isArray(finding) ? 100 * finding[s] : 100;
    const input = make("input", { type: "range", min: 0, max: 100, value });
    input.setAttribute("aria-label", `weight of ${name} ${label}`);
    input.addEventListener("change", () => {
      const weights = inputs.map((i) => Number(i.value) / 100);
      if (weights.every((w) => w === 0)) return fail("one weight has to be positive");
      ask(withFinding(chosen, weights.every((w) => w === weights[0]) ? null : weights));
    });
    return input;
  });
  const rows = inputs.map((input, s) => make("div", {}, input, ` ${states[s]}`));
  return [make("h3", { textContent: "Soft evidence: weight of each state" }), ...rows];
}

async function table(k) {
  const aside = byId("details");
  let reply;
  try {
    reply = await post("/api/table", { ...shown, variable: k });
  } catch (error) {
    aside.append(make("p", { textContent: error.message }));
    return;
  }
  if (chosen !== k) return;
  const { states } = model.variables[k];
  const parents = reply.parents.map((p) => model.variables[p]);
  const head = make("tr", {}, ...[...parents.map((p) => p.name), ...states]
    .map((text) => make("th", { scope: "col", textContent: text })));
  const rows = reply.rows.map((row, r) => {
    const place = placeOf(r, parents.map((p) => p.states.length));
    const labels = place.map((s, i) => parents[i].states[s]);
    return make("tr", {}, ...labels.map((text) => make("th", { scope: "row", textContent: text })),
      ...row.map((p, s) => cell(k, [...place, s], p, labels.concat(states[s]))));
  });
  aside.querySelectorAll(".table").forEach((old) => old.remove());
  const reset = make("button", { type: "button", className: "table", textContent: "Reset this table" });
  reset.addEventListener("click", () =>
    ask({ ...shown, changes: shown.changes.filter((c) => c[0] !== k) }));
  aside.append(make("h3", { className: "table", textContent: "What if: probabilities of the table" }),
    make("table", { className: "table" }, make("thead", {}, head), make("tbody", {}, ...rows)), reset);
}

function placeOf(row, sizes) {
  const place = [];
  for (const size of [...sizes].reverse()) {
    place.unshift(row % size);
    row = Math.floor(row / size);
  }
  return place;
}

function cell(k, place, p, labels) {
  const input = make("input", { type: "number", min: 0, max: 1, step: 0.01, value: p });
  input.setAttribute("aria-label", `probability of ${labels.join(" ")}`);
  input.addEventListener("change", () => {
    const value = Number(input.value);
    if (input.value === "" || !(value >= 0 && value <= 1)) return fail("a probability lies between 0 and 1");
    ask(withChange(k, place, value));
  });
  const changed = shown.changes.some((c) => c[0] === k && String(c[1]) === String(place));
  return make("td", { className: changed ? "changed" : "" }, input);
}

// --- saving and sharing ------------------------------------------------------------------------

function save() {
  saved.push(model.variables.map(({ states }, k) => {
    const finding = shown.evidence[k];
    return finding === undefined || Array.isArray(finding) ? "" : states[finding];
  }));
  byId("download").disabled = false;
  byId("download").textContent = `Download cases (${saved.length})`;
  say(`case ${saved.length} saved`);
}

function download() {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [model.variables.map((v) => v.name), ...saved].map((row) => row.map(quoted).join(","));
  const url = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  make("a", { href: url, download: `${model.name || "cases"}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function fromLink() {
  try {
    const value = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return { evidence: { ...value.evidence }, changes: [...value.changes] };
  } catch {
    return { evidence: {}, changes: [] };
  }
}

async function start() {
  try {
    model = await post("/api/model", {});
  } catch (error) {
    return fail(error.message);
  }
  document.title = model.name ? `${model.name} - pgnn` : "pgnn";
  byId("title").textContent = model.name || "pgnn";
  byId("view").disabled = !model.layout;
  byId("undo").addEventListener("click", undo);
  byId("redo").addEventListener("click", redo);
  byId("clear").addEventListener("click", () => ask({ evidence: {}, changes: [] }));
  byId("explain").addEventListener("click", async (event) => {
    const pressed = event.currentTarget.getAttribute("aria-pressed") !== "true";
    event.currentTarget.setAttribute("aria-pressed", String(pressed));
    best = null;
    if (pressed) await explain().catch((error) => fail(error.message));
    else paint();
  });
  byId("save").addEventListener("click", save);
  byId("download").addEventListener("click", download);
  byId("link").addEventListener("click", () =>
    navigator.clipboard.writeText(location.href).then(() => say("link copied"), () => fail(location.href)));
  byId("view").addEventListener("click", (event) => {
    tableView = !tableView;
    event.currentTarget.setAttribute("aria-pressed", String(tableView));
    if (byId("graph")) byId("graph").remove();
    paint();
  });
  byId("find").addEventListener("input", () => { limit = MOST; paint(); });
  byId("sort").addEventListener("change", paint);
  byId("smaller").addEventListener("click", () => { zoom = Math.max(0.25, zoom / 1.2); paint(); });
  byId("larger").addEventListener("click", () => { zoom = Math.min(3, zoom * 1.2); paint(); });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undo(); }
    if ((event.ctrlKey || event.metaKey) && event.key === "y") { event.preventDefault(); redo(); }
    if (event.key === "/") { event.preventDefault(); byId("find").focus(); }
  });
  await ask({ evidence: {}, changes: [] }, { remember: false });
  if (Object.keys(linked.evidence).length || linked.changes.length) await ask(linked);
}

const linked = fromLink(); // before the first answer writes the address anew
start();
