"use strict";

// --- what is painted: cards of variables, in a graph or a list ------------------------------------

const MOST = 120; // cards of the list, until more are asked for
const cards = new Map();
let limit = MOST, zoom = 1, listView = false, hit = 0;
let match = null; // the variable of the graph that was found

const percent = (p) =>
  p === 0 || p === 1 ? `${100 * p}%` : p < 0.0005 ? "<0.1%" : p > 0.9995 ? ">99.9%" : `${(100 * p).toFixed(1)}%`;
const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;
const nameOf = (k) => model.variables[k].name;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
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
    const button = make("button", { type: "button", className: "state", tabIndex: s ? -1 : 0 },
      make("span", { className: "label", textContent: label, title: label }),
      make("span", { className: "track" }, fill, tick), number);
    button.addEventListener("click", () => toggle(k, s));
    return { button, fill, tick, number };
  });
  const element = make("section", { className: "card" }, make("h2", {}, title, badge),
    ...lines.map((line) => line.button));
  element.dataset.variable = k;
  element.setAttribute("aria-label", [name, relatives("parents", model.variables[k].parents),
    relatives("children", model.children[k])].filter(Boolean).join("; "));
  const card = { element, title, badge, lines };
  cards.set(k, card);
  return card;
}

const relatives = (word, keys) => (keys.length ? `${word} ${keys.map(nameOf).join(", ")}` : "");

function paintCard(k, most) {
  const { element, badge, lines } = cardOf(k);
  const finding = shown.evidence[k];
  const soft = Array.isArray(finding);
  const mark = soft ? "soft" : finding !== undefined ? "observed" : k === most ? "most" : "";
  const marks = { missed: !matches(k), chosen: k === chosen, hit: k === match, clash: clash.includes(k) };
  element.className = ["card", mark, ...Object.keys(marks).filter((name) => marks[name])].join(" ").trim();
  const weights = soft && finding.length < 4 ? ` ${finding.map((w) => Math.round(100 * w)).join(" : ")}` : "";
  badge.textContent =
    { soft: `soft evidence${weights}`, observed: "observed", most: "changed most" }[mark] || "";
  const { name, states } = model.variables[k];
  const old = reference();
  lines.forEach(({ button, fill, tick, number }, s) => {
    const p = answer ? answer.marginals[k][s] : null, isBest = best !== null && best[k] === s;
    const text = p === null ? "..." : percent(p);
    fill.style.transform = `scaleX(${p || 0})`;
    number.textContent = text;
    tick.hidden = !old;
    if (old) tick.style.left = `calc(${old.marginals[k][s]} * (100% - 2px))`;
    button.setAttribute("aria-pressed", String(finding === s));
    button.setAttribute("aria-label", `${name} ${states[s]} ${text}${isBest ? ", most probable" : ""}`);
    button.classList.toggle("best", isBest);
  });
}

function paint() {
  const distances = model.variables.map((_, k) => (k in shown.evidence ? 0 : distance(k)));
  const visibly = (k) => distances[k] > 0 && answer.marginals[k].some((_, s) => isVisible(k, s));
  const order = [...distances.keys()].filter(visibly).sort((a, b) => distances[b] - distances[a]);
  const visible = isList() ? paintList(distances) : paintGraph();
  visible.forEach((k) => paintCard(k, order.length ? order[0] : null));
  byId("sorting").hidden = !isList();
  byId("zooming").hidden = isList();
  changed = order.slice(0, 5);
  if (answer) paintSummary();
  if (chosen !== null) paintDetails();
}

const isList = () => listView || !model.layout;
const isNarrow = () => innerWidth < 600;

// --- finding variables ------------------------------------------------------------------------------

const matches = (k) => {
  const words = byId("find").value.trim().toLowerCase();
  const { name, states } = model.variables[k];
  return !words || name.toLowerCase().includes(words) || states.some((s) => s.toLowerCase().includes(words));
};

function find(step) {
  const keys = [...model.variables.keys()].filter(matches);
  hit = step && keys.length ? (hit + step + keys.length) % keys.length : 0;
  limit = MOST;
  const searched = byId("find").value.trim() !== "";
  match = searched && keys.length && !isList() ? keys[hit] : null;
  paint();
  const text = !searched ? "" : !keys.length ? "no match"
    : isList() ? count(keys.length, "match", "matches") : `${hit + 1} of ${keys.length}`;
  byId("found").textContent = text;
  if (!searched) return;
  if (isList()) byId("main").scrollTop = 0;
  say(match === null ? text : `${text}: ${nameOf(match)}`);
  if (match !== null) center(match);
}

const center = (k) => cardOf(k).element.scrollIntoView({ block: "center", inline: "center" });

function reveal(k) {
  if (!cardOf(k).element.isConnected) {
    byId("find").value = "";
    limit = model.variables.length;
    paint();
  }
  center(k);
  cardOf(k).title.focus({ preventScroll: true });
}

// Arrow keys: up and down within a card, left and right between cards.
function arrows(event) {
  const card = event.target.closest(".card");
  if (!card) return;
  const stops = [...card.querySelectorAll("button")];
  const sibling = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key] || 0;
  const next = sibling ? card[sibling] && card[sibling].querySelector("button")
    : step ? stops[stops.indexOf(event.target) + step] : null;
  if (!next) return;
  event.preventDefault();
  if (next.matches(".state")) stops.slice(1).forEach((state) => { state.tabIndex = state === next ? 0 : -1; });
  next.focus();
}

// --- the graph ------------------------------------------------------------------------------------

function paintGraph() {
  if (!byId("graph")) {
    byId("main").replaceChildren(make("div", { id: "sheet" }, drawGraph()));
    if (isNarrow()) zoom = fitting();
  }
  const [width, height] = model.layout.size;
  Object.assign(byId("sheet").style, { width: `${zoom * width + 6}px`, height: `${zoom * height + 6}px` });
  byId("graph").style.transform = `scale(${zoom})`;
  return [...model.variables.keys()];
}

function fitting() {
  const { clientWidth, clientHeight } = byId("main");
  const [width, height] = model.layout.size;
  const tall = isNarrow() ? Infinity : (clientHeight - 52) / height; // narrow pages scroll as a whole
  return Math.max(0.25, Math.min(1.6, (clientWidth - 52) / width, tall));
}

// Moves the graph with the mouse; touch screens scroll by themselves.
function pan(event) {
  const main = byId("main"), { left, top } = main.getBoundingClientRect();
  const onBar = event.clientX - left >= main.clientWidth || event.clientY - top >= main.clientHeight;
  if (isList() || onBar || event.pointerType !== "mouse" || event.button || event.target.closest("button")) return;
  event.preventDefault();
  main.setPointerCapture(event.pointerId);
  const move = ({ movementX, movementY }) => main.scrollBy(-movementX, -movementY);
  main.addEventListener("pointermove", move);
  main.addEventListener("lostpointercapture", () => main.removeEventListener("pointermove", move), { once: true });
}

function zoomTo(value) {
  zoom = Math.max(0.25, Math.min(3, value));
  paint();
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

// --- the list -------------------------------------------------------------------------------------

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
