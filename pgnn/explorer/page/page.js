"use strict";

const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token");

let model = null; // variables, their children, layout
let shown = { evidence: {}, changes: [] }; // the case on the page
const steps = [shown]; // all cases so far: those that were undone come after `here`
let here = 0, aim = 0, fresh = false; // number of the case, of the one asked for, whether that is new
let held = ""; // the weight whose repeated changes are one step, until something else has the focus
let answer = null, before = null, base = null; // now, before the last step, without evidence
let clash = []; // variables whose findings excluded the one that was rejected
let best = null; // states and log probability of the most probable explanation
let chosen = null; // number of the variable in the column of details
let question = 0, explanation = 0, waiting = 0;

async function post(path, message) {
  const late = setTimeout(() => { byId("busy").hidden = false; }, 500);
  waiting += 1;
  try {
    const reply = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Token": token },
      body: JSON.stringify(message),
    });
    const value = await reply.json();
    if (!reply.ok) throw new Error(value.error);
    return value;
  } finally {
    clearTimeout(late);
    waiting -= 1;
    if (!waiting) byId("busy").hidden = true;
  }
}

// --- the case ---------------------------------------------------------------------------------

const isEmpty = ({ evidence, changes }) => !Object.keys(evidence).length && !changes.length;
const isExplaining = () => byId("explain").getAttribute("aria-pressed") === "true";

// Asks for a case: step `at` of those so far, or a new one. `hold` names the weight that changed,
// and `visited` says that the address is already that of the case.
async function ask(next, { at = null, hold = "", visited = false, start = performance.now() } = {}) {
  const number = ++question;
  fresh = at === null;
  aim = fresh ? here + 1 : at;
  try {
    const reply = await post("/api/answer", next);
    if (isEmpty(next) && !reply.impossible) base = reply;
    if (number !== question) return; // a later question overtook this one
    if (reply.impossible) return reject(next, reply);
    const merged = fresh && hold !== "" && hold === held;
    if (merged) steps[here] = next;
    else if (fresh) steps.splice(++here, Infinity, next);
    else here = at;
    if (!merged) before = answer;
    [aim, fresh, held] = [here, false, hold];
    const previous = shown;
    [shown, answer, best, clash] = [next, reply, null, []];
    explanation += 1;
    byId("error").hidden = true;
    paint();
    say(spokenStep(previous));
    requestAnimationFrame(() => setTimeout(() => {
      document.body.dataset.paint = (performance.now() - start).toFixed(1);
      document.body.dataset.answers = String(Number(document.body.dataset.answers || 0) + 1);
    }));
    if (!visited) remember(merged);
    if (isExplaining()) await explain();
  } catch (error) {
    if (number === question) [aim, fresh] = [here, false];
    fail(error.message);
  }
}

function reject(next, { impossible, conflict }) {
  [aim, fresh] = [here, false];
  clash = conflict;
  if (answer) paint();
  fail(answer ? rejection(next, impossible, conflict) : impossible);
}

function say(text) {
  byId("spoken").textContent = text;
}

function fail(text) {
  if (!answer) byId("main").replaceChildren();
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

function go(step) {
  const to = aim + step;
  if (to < 0 || to >= steps.length || (fresh && step > 0)) return;
  ask(steps[to], { at: to });
}

async function explain(longer = false) {
  const number = ++explanation;
  const reply = await post("/api/explanation", { ...shown, longer });
  if (number !== explanation || !isExplaining()) return; // the case has changed, say
  if (reply.impossible) return fail(reply.impossible);
  best = { ...reply.states, log_prob: reply.log_prob, gap: reply.gap, longer };
  paint();
  const [word, log] = scoreOf(best);
  say(`most probable explanation, log ${word === "P" ? "probability" : word} ${log.toFixed(4)}${doubtOf(best)}`);
}

async function start() {
  try {
    model = await post("/api/model", {});
  } catch (error) {
    return fail(error.message);
  }
  document.title = model.name ? `${model.name} - pgnn` : "pgnn";
  byId("title").textContent = model.name || "pgnn";
  model.children = model.variables.map(() => []);
  model.variables.forEach(({ parents }, k) => parents.forEach((p) => model.children[p].push(k)));
  byId("view").disabled = !model.layout;
  if (!model.layout) byId("view").title = "large networks are always shown as a list";
  listView = isNarrow();
  byId("view").setAttribute("aria-pressed", String(isList()));
  byId("undo").addEventListener("click", () => go(-1));
  byId("redo").addEventListener("click", () => go(1));
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
    navigator.clipboard.writeText(location.href).then(copied, () => fail(location.href)));
  byId("view").addEventListener("click", (event) => {
    listView = !listView;
    event.currentTarget.setAttribute("aria-pressed", String(listView));
    byId("main").replaceChildren();
    find(0);
  });
  byId("find").addEventListener("input", () => find(0));
  byId("find").addEventListener("keydown", (event) => {
    if (event.key === "Enter") find(event.shiftKey ? -1 : 1);
  });
  byId("sort").addEventListener("change", paint);
  byId("smaller").addEventListener("click", () => zoomTo(zoom / 1.2));
  byId("larger").addEventListener("click", () => zoomTo(zoom * 1.2));
  byId("fit").addEventListener("click", () => zoomTo(fitting()));
  byId("close").addEventListener("click", closeDetails);
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
  byId("main").addEventListener("keydown", arrows);
  byId("main").addEventListener("pointerdown", pan);
  byId("menu").addEventListener("click", (event) => {
    const isOpen = document.body.classList.toggle("menu");
    event.currentTarget.setAttribute("aria-expanded", String(isOpen));
  });
  byId("compare").addEventListener("change", paint);
  document.addEventListener("keydown", pressed);
  document.addEventListener("input", ({ target }) => { target.dataset.typed = "true"; });
  document.addEventListener("change", ({ target }) => { delete target.dataset.typed; });
  document.addEventListener("focusin", ({ target }) => { if (target.ariaLabel !== held) held = ""; });
  addEventListener("popstate", visit);
  const linked = location.hash;
  paint();
  post("/api/cost", {}).then(paintCost, () => {});
  await ask(steps[0], { at: 0, visited: linked !== "" });
  if (answer && !isList()) zoomTo(Math.max(1, fitting()));
  if (linked) await visit();
}

function pressed(event) {
  const { key, target } = event;
  if (key === "Escape" && target.id !== "find") return closeDetails();
  const letter = key.toLowerCase();
  const isTyped = target.id === "find" || "typed" in target.dataset;
  if ((event.ctrlKey || event.metaKey) && !isTyped && (letter === "z" || letter === "y")) {
    event.preventDefault();
    go(letter === "z" && !event.shiftKey ? -1 : 1);
  }
  if (key === "/" && !target.matches("input")) {
    event.preventDefault();
    byId("find").focus();
  }
}

start();
