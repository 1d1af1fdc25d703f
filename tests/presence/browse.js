// A real browser for a test: Debian's Chromium without a screen, led by lines of JSON on the standard input.
//
//   {"open": URL}  {"type": [SELECTOR, TEXT]}  {"click": SELECTOR}  {"press": KEY}  {"until": EXPRESSION}  {"see": EXPRESSION}
//   {"screenshot": FILE}  {"new": true}  {"turn": N}  {"offline": BOOLEAN}  {"look": {"width": N, "height": N, "dark": BOOLEAN}}
//
// Each line is answered by one, `{"done": VALUE}` or `{"failed": TEXT}`, with what the page shows and complains of. `until` waits
// until an expression of the page holds, and answers its value; `see` asks again and again instead, for pages whose policy lets
// nobody evaluate anything in them. `new` opens another page, and `turn` goes back to the Nth. The browser keeps everything in the
// folder that is the first argument; its flags are the others. The end of the input ends the browser and this; if this is killed,
// the browser ends as its pipe does.
"use strict";

const readline = require("node:readline");
const puppeteer = require("puppeteer-core");

const [folder, ...flags] = process.argv.slice(2);
// As `PATIENCE` of the tests that wait for it, and a little less, so that the expression is told.
const PATIENCE = 9_000;
/** How often `see` asks. */
const AGAIN = 50;

async function launch() {
  const isRoot = process.getuid() === 0;
  return puppeteer.launch({
    executablePath: "/usr/bin/chromium",
    // Ends with this process, whatever ends it.
    pipe: true,
    userDataDir: folder,
    // Chromium refuses to run sandboxed as root; containers have little shared memory.
    args: [...(isRoot ? ["--no-sandbox"] : []), "--disable-dev-shm-usage", "--disable-gpu", ...flags],
    defaultViewport: { width: 900, height: 640 },
  });
}

/** What the pages complained of, for the one who asks why something failed. */
const complaints = [];

function listen(page) {
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  return page;
}

/** Asks until an expression of the page holds. */
async function see(page, expression) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
    const value = await page.evaluate(expression);
    if (value) return value;
    await new Promise((wake) => setTimeout(wake, AGAIN));
  }
  const shown = await page.evaluate(() => document.body.innerText);
  throw new Error([`${expression}: it does not hold`, shown, ...complaints].join("\n"));
}

async function obey(browser, state, command) {
  if (command.new) state.pages.push(listen(await browser.newPage()));
  if (command.new) state.page = state.pages.at(-1);
  if ("turn" in command) state.page = state.pages[command.turn];
  const { page } = state;
  if ("turn" in command) await page.bringToFront();
  if (command.look) await page.setViewport(command.look);
  if (command.look) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: command.look.dark ? "dark" : "light" }]);
  if ("offline" in command) await page.setOfflineMode(command.offline);
  if (command.open) await page.goto(command.open);
  if (command.type) await page.locator(command.type[0]).fill(command.type[1]);
  if (command.click) await page.click(command.click);
  if (command.press) await page.keyboard.press(command.press);
  if (command.screenshot) await page.screenshot({ path: command.screenshot });
  if (command.see) return see(page, command.see);
  if (!command.until) return null;
  try {
    const handle = await page.waitForFunction(command.until, { polling: "mutation" });
    return await handle.jsonValue();
  } catch (error) {
    const shown = await page.evaluate(() => document.body.innerText);
    throw new Error([`${command.until}: ${error.message}`, shown, ...complaints].join("\n"));
  }
}

async function main() {
  const browser = await launch();
  const first = listen(await browser.newPage());
  const state = { page: first, pages: [first] };
  const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  answer({ done: await browser.version() });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      answer({ done: await obey(browser, state, JSON.parse(line)) });
    } catch (error) {
      answer({ failed: error.message });
    }
  }
  await browser.close();
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
