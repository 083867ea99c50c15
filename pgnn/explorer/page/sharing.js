"use strict";

// --- cases as addresses and as rows of a table ------------------------------------------------------

const CHANGES = "changes"; // the part of an address that is no finding
let saved = [];

// The case in an address: name=state for each finding, as in the options of the command line.
function written({ evidence, changes }) {
  const parts = new URLSearchParams();
  for (const [k, finding] of Object.entries(evidence)) parts.append(nameOf(k), textOf(Number(k), finding));
  if (changes.length) {
    parts.append(CHANGES, JSON.stringify(changes.map(([k, place, p]) => [nameOf(k), labelsOf(k, place), p])));
  }
  return parts.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
}

function textOf(k, finding) {
  const { states } = model.variables[k];
  if (!Array.isArray(finding)) return states[finding];
  const isPlain = states.every((label) => !/[,:]/.test(label));
  return isPlain ? states.map((label, s) => `${label}:${finding[s]}`).join(",") : JSON.stringify(finding);
}

const scopeOf = (k) => [...model.variables[k].parents, k];
const labelsOf = (k, place) => scopeOf(k).map((v, i) => model.variables[v].states[place[i]]);

// Reads an address; throws an error that names what the model does not have.
function readAddress(text) {
  const result = { evidence: {}, changes: [] };
  for (const [name, value] of new URLSearchParams(text)) {
    if (name === CHANGES && value.startsWith("[[")) {
      result.changes = JSON.parse(value).map(([child, labels, p]) => {
        const k = numberOf(child);
        return [k, scopeOf(k).map((v, i) => stateOf(v, labels[i])), p];
      });
    } else {
      const k = numberOf(name);
      result.evidence[k] = findingOf(k, value);
    }
  }
  return result;
}

function numberOf(name) {
  const k = model.variables.findIndex((variable) => variable.name === name);
  if (k < 0) throw new Error(`the link names ${name}, which is no variable of this model`);
  return k;
}

function stateOf(k, label) {
  const s = model.variables[k].states.indexOf(label);
  if (s < 0) throw new Error(`the link names ${label}, which is no state of ${nameOf(k)}`);
  return s;
}

function findingOf(k, text) {
  const { states } = model.variables[k];
  if (states.includes(text) || !/[[:]/.test(text)) return stateOf(k, text);
  if (text.startsWith("[")) return JSON.parse(text);
  const weights = states.map(() => 0);
  for (const part of text.split(",")) {
    const end = part.lastIndexOf(":");
    weights[stateOf(k, part.slice(0, end))] = Number(part.slice(end + 1));
  }
  return weights;
}

// Every case has an address of its own, so that Back and Forward of the browser work.
function remember(merged) {
  const address = `#${written(shown)}`;
  if (merged) history.replaceState(null, "", address);
  else if (address.slice(1) !== location.hash.slice(1)) history.pushState(null, "", address);
}

async function visit() {
  try {
    await ask(readAddress(location.hash.slice(1)), { visited: true });
  } catch (error) {
    fail(error instanceof SyntaxError ? "the link cannot be read" : error.message);
  }
}

function copied() {
  say("link copied");
  byId("link").textContent = "Link copied";
  setTimeout(() => { byId("link").textContent = "Copy link"; }, 2000);
}

function save() {
  const isSoft = Object.values(shown.evidence).some(Array.isArray);
  if (isSoft || shown.changes.length) {
    const what = isSoft ? "soft evidence" : "changed tables";
    return fail(`the case was not saved, because a row of a CSV file has no ${what}; "Copy link" has all of it`);
  }
  saved.push(model.variables.map(({ states }, k) => (k in shown.evidence ? states[shown.evidence[k]] : "")));
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
