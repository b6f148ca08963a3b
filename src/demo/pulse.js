// Asks ten times a second and draws how long each answer took.
const colours = ["#3b82f6", "#10b981", "#f59e0b", "#a855f7"];
const bars = [];
const counts = { answered: 0, waiting: 0, failed: 0 };
const canvas = document.getElementById("pulse");
const pen = canvas.getContext("2d");

function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  bars.forEach((bar, at) => {
    const seconds = bar.seconds ?? (performance.now() - bar.since) / 1000;
    const height = Math.min(canvas.height, 8 + 40 * seconds);
    pen.fillStyle = bar.failed ? "#ef4444" : (colours[bar.worker] ?? "#8886");
    pen.fillRect(at * 8, canvas.height - height, 6, height);
  });
  for (const [name, count] of Object.entries(counts)) document.getElementById(name).textContent = count;
}

async function ask() {
  const bar = { since: performance.now() };
  bars.push(bar);
  if (bars.length > 150) bars.shift();
  counts.waiting += 1;
  try {
    const answer = await fetch("/fast");
    const text = await answer.text();
    bar.failed = !answer.ok;
    bar.worker = Number(text.replace(/\D/g, ""));
  } catch {
    bar.failed = true;
  }
  bar.seconds = (performance.now() - bar.since) / 1000;
  counts.waiting -= 1;
  counts[bar.failed ? "failed" : "answered"] += 1;
}

document.getElementById("restart").onclick = async () => {
  const answer = await fetch("/restart", { method: "POST" });
  document.getElementById("said").textContent = await answer.text();
};
// A browser opens six connections to a host; more than that would wait in the browser, not in the proxy.
setInterval(() => { if (counts.waiting < 5) ask(); }, 100);
setInterval(draw, 50);
