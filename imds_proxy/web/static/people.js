// The buttons of the people's page: what they ask the server, what they show, and when that goes away again.
// Keys are only ever in the panel below their row: not in a URL, not in storage, not in what is announced.

const PATIENCE = 45_000; // milliseconds; the server gives up sooner
const FEW_ROWS = 8; // which need no filter
const WARNINGS = [300, 60]; // seconds before the end at which a screen reader says so
const ENDED = "These credentials have ended. Ask for new ones.";

const page = document.querySelector("main");
const announcement = document.querySelector("#announcement");
const born = now();
let shown = null; // the one panel that is open

class Problem extends Error {
  constructor(text, { isStale = false } = {}) {
    super(text);
    this.isStale = isStale; // only a reload helps
  }
}

// ---- time

function now() {
  return { wall: Date.now(), steady: performance.now() };
}

// Milliseconds since `start`, by the clock that went further: one may stand while the machine sleeps, the
// other may be set back. Either way keys go too early rather than too late.
function since(start) {
  return Math.max(Date.now() - start.wall, performance.now() - start.steady);
}

function duration(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${String(rest).padStart(2, "0")} s` : `${rest} s`;
}

// ---- the server

async function mint(what, row) {
  if (since(born) >= Number(page.dataset.tokenLife) * 1000) {
    throw new Problem("This page has been open for too long.", { isStale: true });
  }
  const { account, role } = row.dataset;
  let response;
  try {
    // The mode stays "cors": in others, says the Fetch standard, our referrer policy makes Origin "null".
    response = await fetch(what, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams({ account, role, token: page.dataset.token }),
      cache: "no-store",
      redirect: "manual",
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new Problem("The server can't be reached. Try again in a moment.");
  }
  if (response.type === "opaqueredirect" || response.status === 401) {
    throw new Problem("Your sign-in has ended.", { isStale: true });
  }
  const body = await response.json().catch(() => null);
  if (!response.ok || body === null) {
    const text = body?.message ?? `The server has answered ${response.status} ${response.statusText}`;
    throw new Problem(String(text), { isStale: response.status === 403 });
  }
  return { body, answered: Date.parse(response.headers.get("Date")) || Date.now() };
}

// ---- what a person sees and hears

function announce(text) {
  announcement.textContent = "";
  requestAnimationFrame(() => (announcement.textContent = text));
}

function nameOf(row) {
  return `${row.querySelector("th").textContent} ${row.querySelector(".role").textContent}`;
}

function fromTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

// Opens the panel below a row, in place of any other.
function open(row, content) {
  close();
  const panel = fromTemplate("panel");
  panel.querySelector("td").append(content);
  row.after(panel);
  shown = { row, panel, ticking: null };
}

function close() {
  if (shown === null) return;
  clearInterval(shown.ticking);
  const button = shown.row.querySelector(".show");
  const hadFocus = shown.panel.contains(document.activeElement);
  shown.panel.remove();
  shown = null;
  button.setAttribute("aria-expanded", "false");
  if (hadFocus) button.focus();
}

function showProblem(row, problem) {
  const content = fromTemplate("problem");
  content.querySelector("p").textContent = problem.message;
  if (problem.isStale) {
    const reload = document.createElement("a");
    reload.href = "";
    reload.textContent = "Reload the page";
    content.append(reload);
  }
  open(row, content);
}

// Runs what a button does, once at a time; a disabled button would lose the focus.
async function run(button, row, text, action) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  announce(text);
  try {
    await action();
  } catch (error) {
    if (error instanceof Problem) {
      showProblem(row, error);
    } else {
      console.error(error.name);
      showProblem(row, new Problem("This page has failed.", { isStale: true }));
    }
  } finally {
    button.removeAttribute("aria-busy");
  }
}

// ---- the console

async function openConsole(row) {
  // In the click itself: a tab that opens later is a pop-up, which browsers block.
  const tab = window.open("", "_blank");
  if (tab === null) {
    throw new Problem("Your browser has blocked the new tab. Allow pop-ups for this page, then try again.");
  }
  tab.opener = null;
  tab.document.title = "AWS console";
  const style = { colorScheme: "light dark", font: "1rem system-ui, sans-serif" };
  Object.assign(tab.document.documentElement.style, style);
  tab.document.body.textContent = `Opening the AWS console for ${nameOf(row)} …`;
  try {
    const { body } = await mint("console", row);
    if (!/^https?:/.test(body.ConsoleUrl)) {
      throw new Problem("There is no way into the console at the moment. Try again later.");
    }
    tab.location.replace(body.ConsoleUrl);
    announce(`The console for ${nameOf(row)} opens in a new tab`);
  } catch (error) {
    tab.close();
    throw error;
  }
}

// ---- credentials

const FORMS = {
  bash: (keys) => environment(keys).map(([name, value]) => `export ${name}='${value}'`).join("\n"),
  powershell: (keys) => environment(keys).map(([name, value]) => `$Env:${name} = '${value}'`).join("\n"),
  profile: (keys, name) =>
    [`[${name.replace(/[^\p{L}\p{N}_.@+=,-]+/gu, "-")}]`]
      .concat(environment(keys).map(([key, value]) => `${key.toLowerCase()} = ${value}`))
      .join("\n"),
};

function environment(keys) {
  return [
    ["AWS_ACCESS_KEY_ID", keys.AccessKeyId],
    ["AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey],
    ["AWS_SESSION_TOKEN", keys.Token],
  ];
}

async function showCredentials(row, button) {
  const { body, answered } = await mint("credentials", row);
  // People paste this into a shell: nothing but what AWS makes its keys of may be in it.
  if (!environment(body).every(([, value]) => /^[\w+/=-]+$/.test(value))) {
    throw new Problem("The server has sent credentials that can't be shown.");
  }
  const life = Date.parse(body.Expiration) - answered; // by the server's clock, as ours may be wrong
  if (!(life > 0)) throw new Problem(ENDED);
  const content = fromTemplate("keys");
  content.querySelector("h2").textContent = `Credentials for ${nameOf(row)}`;
  for (const block of content.querySelectorAll("pre")) {
    block.textContent = FORMS[block.dataset.form](body, nameOf(row)) + "\n";
  }
  content.querySelector(".hide").addEventListener("click", () => hide());
  for (const copy of content.querySelectorAll(".copy")) {
    copy.addEventListener("click", () => copyForm(copy));
  }
  open(row, content);
  button.setAttribute("aria-expanded", "true");
  const left = Math.floor(life / 1000);
  Object.assign(shown, { start: now(), life, left, ticking: setInterval(tick, 1000) });
  announce(`Credentials for ${nameOf(row)} are shown, valid for ${duration(left)}`);
  tick();
}

function hide() {
  const name = nameOf(shown.row);
  close();
  announce(`Credentials for ${name} are hidden`);
}

function tick() {
  if (!shown?.ticking) return;
  const left = Math.floor((shown.life - since(shown.start)) / 1000);
  if (!(left > 0)) {
    showProblem(shown.row, new Problem(ENDED));
    return;
  }
  shown.panel.querySelector(".left").textContent = duration(left);
  if (WARNINGS.some((limit) => left <= limit && shown.left > limit)) {
    announce(`The credentials for ${nameOf(shown.row)} end in ${duration(left)}`);
  }
  shown.left = left;
}

async function copyForm(button) {
  const block = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(block.textContent);
  } catch {
    getSelection().selectAllChildren(block);
    announce("The browser does not let this page copy. The text is selected: copy it with Ctrl+C");
    return;
  }
  announce("Copied");
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 2000);
}

// ---- many rows

function textOf(row) {
  const cells = [...row.querySelectorAll("[data-label]")];
  return cells.map((cell) => cell.textContent.toLowerCase()).join("\n");
}

function filterRows(words) {
  let count = 0;
  for (const row of rows) {
    row.hidden = !words.every((word) => texts.get(row).includes(word));
    count += !row.hidden;
  }
  document.querySelector("#count").textContent = `${count} of ${rows.length}`;
  if (shown?.row.hidden) close();
}

const rows = [...document.querySelectorAll("tr[data-role]")];
const texts = new Map(rows.map((row) => [row, textOf(row)]));
for (const row of rows) {
  const [opens, shows] = row.querySelectorAll("button");
  opens.addEventListener("click", () =>
    run(opens, row, `Opening the console for ${nameOf(row)}`, () => openConsole(row)),
  );
  shows.addEventListener("click", () => {
    if (shown?.row === row && shown.ticking) return hide();
    return run(shows, row, `Asking for credentials for ${nameOf(row)}`, () => showCredentials(row, shows));
  });
  opens.disabled = shows.disabled = false;
}

if (rows.length > FEW_ROWS) {
  const field = document.querySelector("#filter");
  field.parentElement.hidden = false;
  field.addEventListener("input", () => filterRows(field.value.toLowerCase().split(/\s+/)));
}

// A tab in the background ticks rarely, a page that was left may come back from the browser's memory.
document.addEventListener("visibilitychange", tick);
window.addEventListener("pagehide", close);
