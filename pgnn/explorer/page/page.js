"use strict";

const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token");

let model = null; // variables, their children, layout
let shown = { evidence: {}, changes: [] }; // the case on the page
let past = [], future = []; // cases before, and those that were undone
let answer = null, before = null; // the last two answers
let best = null; // states and log probability of the most probable explanation
let chosen = null; // number of the variable in the column of details
let saved = [], question = 0, waiting = 0;

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
    const previous = shown;
    shown = next;
    before = answer;
    answer = reply;
    if (!explaining) best = null;
    byId("error").hidden = true;
    paint();
    say(spokenStep(previous));
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

async function explain(longer = false) {
  const number = question;
  const reply = await post("/api/explanation", { ...shown, longer });
  if (number !== question) return; // the case has changed
  if (reply.impossible) return fail(reply.impossible);
  best = { ...reply.states, log_prob: reply.log_prob, gap: reply.gap, longer };
  paint();
  say(`most probable explanation, ${model.normalized ? "log probability" : "log score"} ` +
    `${reply.log_prob.toFixed(4)}${doubtOf(best)}`);
}

const doubtOf = ({ gap }) => (gap === 0 ? "" : gap === null ? " (best found)"
  : ` (best found; no other is more than ${gap.toPrecision(3)} above)`);

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

function copied() {
  say("link copied");
  byId("link").textContent = "Link copied";
  setTimeout(() => { byId("link").textContent = "Copy link"; }, 2000);
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
  model.children = model.variables.map(() => []);
  model.variables.forEach(({ parents }, k) => parents.forEach((p) => model.children[p].push(k)));
  byId("view").disabled = !model.layout;
  if (!model.layout) byId("view").title = "large networks are always shown as a list";
  listView = innerWidth < 600;
  byId("view").setAttribute("aria-pressed", String(isList()));
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
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.id !== "find") return closeDetails();
    if (event.target.matches("input")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undo(); }
    if ((event.ctrlKey || event.metaKey) && event.key === "y") { event.preventDefault(); redo(); }
    if (event.key === "/") { event.preventDefault(); byId("find").focus(); }
  });
  await ask({ evidence: {}, changes: [] }, { remember: false });
  if (answer && !isList()) zoomTo(Math.max(1, fitting()));
  if (Object.keys(linked.evidence).length || linked.changes.length) await ask(linked);
}

const linked = fromLink(); // before the first answer writes the address anew
start();
