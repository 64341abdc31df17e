// The board: starts a batch, listens to its events, and draws them.

const by = (id) => document.getElementById(id);
const QUIET = 5000; // ms between two announcements: a screen reader must not be talked over

let stream = null;
let plan = [];
let lastSaid = 0;

const nameOf = ({ region, month }) => `${region} ${String(month).padStart(2, "0")}`;

// Progress is for those who cannot see the bar; how it ended is for all.
function say(text, { now = false, shown = false } = {}) {
  if (!now && Date.now() - lastSaid < QUIET) return;
  lastSaid = Date.now();
  by("said").classList.toggle("unseen", !shown);
  by("said").textContent = text;
}

function tile(inputs) {
  const item = document.createElement("li");
  item.className = "tile";
  const note = document.createElement("small");
  note.textContent = "waiting";
  item.append(nameOf(inputs), note);
  return item;
}

function drawPlan(inputs) {
  plan = inputs;
  by("tiles").replaceChildren(...inputs.map(tile));
}

function drawRun({ index, ok, status, seconds, error, run_id }) {
  const item = by("tiles").children[index];
  const took = seconds === null ? "" : ` · ${seconds.toFixed(1)}\u00a0s`;
  item.className = `tile ${ok ? "ok" : "bad"}`;
  item.lastChild.textContent = ok ? `✓ done${took}` : `✕ ${status}${took}`;
  if (ok) return;
  const line = document.createElement("li");
  line.textContent = `${nameOf(plan[index])}: ${error ?? "no reason given"} (run ${run_id ?? "not started"})`;
  by("failure-list").append(line);
  by("failures").hidden = false;
}

function drawStanding({ total, started, succeeded, failed, errors, over, stopped }) {
  const ended = succeeded + failed + errors;
  by("total").textContent = total;
  by("running").textContent = over ? 0 : Math.max(started - ended, 0);
  by("succeeded").textContent = succeeded;
  by("failed").textContent = failed + errors;
  by("progress").max = total;
  by("progress").value = ended;
  if (!over) return say(`${ended} of ${total} reports have ended.`);
  const end = stopped ? "The service was stopped; the runs go on." : "The batch is finished.";
  say(`${end} ${succeeded} done, ${failed + errors} failed.`, { now: true, shown: true });
  by("board").dataset.over = "true";
  stream.close();
}

function listen(id) {
  stream?.close();
  by("tiles").replaceChildren();
  by("failure-list").replaceChildren();
  by("failures").hidden = true;
  by("board").hidden = false;
  delete by("board").dataset.over;
  stream = new EventSource(`/batches/${encodeURIComponent(id)}/events`);
  stream.addEventListener("plan", (event) => drawPlan(JSON.parse(event.data)));
  stream.addEventListener("run", (event) => drawRun(JSON.parse(event.data)));
  stream.addEventListener("standing", (event) => drawStanding(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) by("problem").textContent = "The service does not answer.";
  });
}

async function order(form) {
  const data = new FormData(form);
  const body = { regions: data.getAll("region"), months: Number(data.get("months")) };
  if (body.regions.length === 0) throw new Error("Choose at least one region.");
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/batches", { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`The batch was not started (${answer.status}).`);
  return answer.json();
}

by("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  by("problem").textContent = "";
  by("start").disabled = true;
  try {
    const batch = await order(event.target);
    history.replaceState(null, "", `#${batch.id}`);
    say(`The batch of ${batch.total} reports has begun.`, { now: true });
    listen(batch.id);
  } catch (error) {
    by("problem").textContent = error.message;
  } finally {
    by("start").disabled = false;
    by("start").focus(); // a disabled button loses the keyboard's place
  }
});

// A reload finds its batch again.
if (location.hash.length > 1) listen(location.hash.slice(1));
