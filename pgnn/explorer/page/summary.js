"use strict";

// --- what changed, against the last step or against no evidence --------------------------------------

let changed = []; // variables that changed most, at least in a digit that is shown

const isAgainstStart = () => byId("compare").value === "start";
const reference = () => (isAgainstStart() ? base : before);

function distance(k) {
  const old = reference();
  if (!old) return 0;
  return 0.5 * answer.marginals[k].reduce((sum, p, s) => sum + Math.abs(p - old.marginals[k][s]), 0);
}

const isVisible = (k, s) => percent(answer.marginals[k][s]) !== percent(reference().marginals[k][s]);

function changeOf(k, colon, arrow) {
  const now = answer.marginals[k], was = reference().marginals[k];
  const [first, ...rest] = [...now.keys()].filter((s) => isVisible(k, s));
  const most = rest.reduce((m, s) => (Math.abs(now[s] - was[s]) > Math.abs(now[m] - was[m]) + 1e-9 ? s : m), first);
  return `${nameOf(k)}${colon}${model.variables[k].states[most]} ${percent(was[most])}${arrow}${percent(now[most])}`;
}

// --- the lines above the cards ----------------------------------------------------------------------

const fixed = (log) => (Math.abs(log) < 5e-7 ? 0 : log).toFixed(6);

// The log probability of the evidence; of a field, whose log Z is not zero, log Z(evidence) - log Z.
function logEvidence() {
  const { log_evidence: log, log_partition: z } = answer;
  return log === null || z === null ? null : log - z;
}

function evidenceFigures() {
  const log = logEvidence(), isSet = Object.keys(shown.evidence).length > 0;
  const field = `log Z${isSet ? "(evidence)" : ""} = ${answer.log_evidence === null ? "not known" : fixed(answer.log_evidence)}`;
  const figure = `log P(evidence) = ${log === null ? "not known" : `${fixed(log)}, probability ${Math.exp(log).toPrecision(4)}`}`;
  return model.normalized ? [figure] : isSet && log !== null ? [field, figure] : [field];
}

// What the logarithm of the most probable states is of, and its value.
function scoreOf({ log_prob: log }) {
  const z = answer.log_partition;
  return z === null ? ["score", log] : ["P", log - z];
}

const doubtOf = ({ gap }) => (gap === 0 ? "" : gap === null ? " (best found)"
  : ` (best found; no other is more than ${gap.toPrecision(3)} above)`);

function paintSummary() {
  document.body.classList.toggle("started", steps.length > 1);
  byId("undo").disabled = here <= 0;
  byId("redo").disabled = here >= steps.length - 1;
  const parts = evidenceFigures();
  if (best) {
    const [word, log] = scoreOf(best);
    parts.push(`log ${word}(most probable explanation) = ${fixed(log)}${doubtOf(best)}`);
  }
  if (shown.changes.length) parts.push(`${count(shown.changes.length, "table entry", "table entries")} changed`);
  const exact = answer.kind === "exact";
  byId("figures").replaceChildren(
    make(exact ? "span" : "strong", { textContent: `${exact ? "" : "not exact: "}${answer.kind} (${answer.engine})` }),
    `; ${parts.join("; ")}`, ...(best && best.gap !== 0 && !best.longer ? [" ", searching()] : []),
    ...(answer.doubts || []).map((text) => make("strong", { textContent: `; ${text}` })));
  const keys = Object.keys(shown.evidence).map(Number);
  byId("findings").replaceChildren(`${count(keys.length, "finding", "findings")} `, ...keys.map(chip));
  byId("changes").replaceChildren(changesTitle(), ...changed.map((k) => link(k, changeOf(k, ": ", " → "))));
}

// Until the first answer: what it costs.
function paintCost({ engine, kind, work }) {
  if (answer) return;
  const cost = work ? ` by about ${work} multiply-adds` : "";
  byId("figures").textContent = `computing the first answer (${kind}, ${engine})${cost} ...`;
}

function changesTitle() {
  const isCompared = isAgainstStart() ? !isEmpty(shown) : before !== null;
  if (!isCompared) return "";
  const than = isAgainstStart() ? "against no evidence" : "by the last step";
  return changed.length ? `changed most ${than} ` : `no visible change ${than}`;
}

function searching() {
  const button = make("button", { type: "button", className: "link", textContent: "search longer",
    title: "by the model's default engine, however long it takes" });
  button.addEventListener("click", () => explain(true).catch((error) => fail(error.message)));
  return button;
}

function valueOf(k, { evidence } = shown) {
  const finding = evidence[k];
  return Array.isArray(finding) ? "soft evidence" : model.variables[k].states[finding];
}

function chip(k) {
  const remove = make("button", { type: "button", textContent: "×", ariaLabel: `remove the finding of ${nameOf(k)}` });
  remove.addEventListener("click", () => ask(withFinding(k, null)));
  return make("span", { className: clash.includes(k) ? "chip clash" : "chip" }, link(k, `${nameOf(k)} = ${valueOf(k)}`), remove);
}

// Why a case was not accepted: what was new in it, and the findings that exclude it.
function rejection(next, impossible, conflict) {
  const isNew = (k) => String(next.evidence[k]) !== String(shown.evidence[k]);
  const added = Object.keys(next.evidence).map(Number).filter(isNew);
  const others = conflict.filter((k) => !added.includes(k) && k in shown.evidence);
  if (added.length !== 1 || String(next.changes) !== String(shown.changes)) return `not changed: ${impossible}`;
  const what = `${nameOf(added[0])} = ${valueOf(added[0], next)} was not added`;
  const given = others.map((k) => `${nameOf(k)} = ${valueOf(k)}`).join(", ");
  return given ? `${what}: it is impossible given ${given}` : `${what}: ${impossible}`;
}

function link(k, text) {
  const button = make("button", { type: "button", className: "link", textContent: text, title: "show the variable" });
  button.addEventListener("click", () => reveal(k));
  return button;
}

// What the last step did, for screen readers: the finding, then what it changed.
function spokenStep(previous) {
  const parts = [];
  for (const key of new Set([...Object.keys(previous.evidence), ...Object.keys(shown.evidence)])) {
    if (String(previous.evidence[key]) === String(shown.evidence[key])) continue;
    const soft = Array.isArray(shown.evidence[key]);
    parts.push(!(key in shown.evidence) ? `${nameOf(key)} no longer observed`
      : soft ? `soft evidence on ${nameOf(key)}` : `${nameOf(key)} observed ${valueOf(key)}`);
  }
  if (String(previous.changes) !== String(shown.changes)) parts.push("tables changed");
  parts.push(...changed.map((k) => changeOf(k, " ", " to ")));
  const log = logEvidence();
  if (log !== null && Object.keys(shown.evidence).length) parts.push(`log probability of the evidence ${log.toFixed(3)}`);
  if (answer.kind !== "exact") parts.push(`${answer.kind}, not exact`);
  return parts.join(". ");
}

