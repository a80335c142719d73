// The reviewers' page. Everything from the API is put in as text; control and direction marks are made visible, so that
// a statement cannot look like another one.
"use strict";

const at = (id) => document.getElementById(id);
const number = decodeURIComponent(location.pathname.split("/").pop());
let shown = null;

const visible = (text) =>
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { authorization: `Bearer ${sessionStorage.getItem("headgate-token")}`, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
  });
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) {
    sessionStorage.removeItem("headgate-token");
    at("login").hidden = false;
  }
  if (!response.ok) throw new Error(answer.error?.message ?? `HTTP ${response.status}`);
  return answer;
}

function parameter(p) {
  const li = document.createElement("li");
  li.textContent = p.null ? "NULL" : visible(p.text ?? `base64 ${p.base64}`);
  return li;
}

function show(q) {
  shown = q;
  document.title = `${q.number} – Headgate`;
  at("title").textContent = `${q.number}: ${q.state.replace("_", " ")}`;
  const facts = [
    ["Asked by", q.who.principal],
    ["Acting for them", q.who.chain.join(" ← ")],
    ["Groups", q.who.groups.join(", ")],
    ["Target", q.environment ? `${q.target} (${q.environment})` : q.target],
    ["Role", q.role],
    ["Rule", q.rule],
    ["Client", [q.who.address, q.who.application].filter(Boolean).join(", ")],
    ["Deadline", new Date(q.deadline_unix_ms).toISOString()],
    ["Client meanwhile", q.on_hold === "refuse"
      ? "does not wait: after a yes it sends the same statement again, once, until the deadline" : "waits"],
    ["Session's settings", q.settings.map((s) => `${s.name} = ${s.value}`).join(", ")],
    ["Spent by session", q.claim ? `${q.claim.session}${q.claim.in_doubt ? " (not certain: its data plane ended)" : ""}` : ""],
    ["Approved by", `${q.approvals.map((a) => a.principal).join(", ") || "nobody yet"} (${q.reviewers.quorum} needed)`],
    ["Denied by", q.denied_by ?? ""],
    ["Reason", q.reason ?? ""],
    ["Digest", q.digest],
  ];
  at("facts").replaceChildren(...facts.filter(([, v]) => v !== "").flatMap(([name, value]) => {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = visible(value);
    return [dt, dd];
  }));
  at("statement").textContent = visible(q.statement);
  at("parameters").replaceChildren(...q.parameters.map(parameter));
  at("runs").hidden = q.stands_for.length === 0;
  at("stands-for").replaceChildren(...q.stands_for.flatMap((inner) => {
    const pre = document.createElement("pre");
    const ol = document.createElement("ol");
    pre.textContent = visible(inner.text);
    pre.tabIndex = 0;
    ol.replaceChildren(...inner.parameters.map(parameter));
    return [pre, ol];
  }));
  at("open-data").hidden = !q.open_data;
  at("answer").hidden = !(q.state === "open" && q.you_may_answer);
  at("question").hidden = false;
  at("login").hidden = true;
}

async function attempt(work) {
  at("message").textContent = "";
  try {
    show(await work());
  } catch (error) {
    at("message").textContent = error.message;
  }
}

const path = `/api/v1/questions/${encodeURIComponent(number)}`;

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("headgate-token", at("token").value.trim());
  at("token").value = "";
  attempt(() => call("GET", path));
});

at("answer").addEventListener("submit", (event) => {
  event.preventDefault();
  const approve = event.submitter?.value === "approve";
  const reason = at("reason").value.trim();
  if (!approve && reason === "") {
    at("message").textContent = "Say why not: whoever asked reads it.";
    return;
  }
  attempt(() => call("POST", `${path}/answer`, { approve, reason, digest: shown.digest }));
});

if (sessionStorage.getItem("headgate-token")) attempt(() => call("GET", path));
