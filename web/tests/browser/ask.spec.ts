import { at, expect, REFUSED, settled, test } from "./page";
import { collection } from "./server";

const QUESTION = "Who founded Debian, and when?";

test("an answer comes with numbers that open the document at the sentence", async ({ page }) => {
  await page.goto(at("ask", { collection, answer: "quoted" }));
  await expect(page.getByRole("textbox", { name: "Question" })).toBeFocused();
  const response = page.waitForResponse(/\/answer$/);
  await page.keyboard.type(QUESTION);
  await page.keyboard.press("Enter");
  expect((await response).headers()["content-type"]).toContain("text/event-stream");
  await settled(page);
  await expect(page.locator(".kind")).toHaveText("In the words of the documents");
  await expect(page.getByRole("complementary", { name: "Sources" })).toBeVisible();

  const quote = page.locator("blockquote", { hasText: "Ian Murdock" }).first();
  const number = quote.getByRole("link", { name: /Source/ });
  const quoted = (await quote.innerText()).replace(/\s*\d+$/, "").trim();
  await number.click();
  await expect(page).toHaveURL(/\/ui\/document\?.*start=\d+&end=\d+/);
  await expect(page.locator(".text mark").first()).toBeInViewport();
  const marked = (await page.locator(".text mark").allTextContents()).join("");
  expect(marked.replace(/\s+/g, " ")).toBe(quoted.replace(/\s+/g, " "));

  // The way back leads to the answer, and asks nothing again.
  let asked = 0;
  page.on("request", (request) => (asked += request.url().endsWith("/answer") ? 1 : 0));
  await page.goBack();
  await expect(quote).toBeVisible();
  expect(asked).toBe(0);
});

test("an answer is shown as it comes", async ({ page }) => {
  await page.addInitScript(() => {
    // The stream is held after its second event until the test lets it go on.
    const original = window.fetch;
    const hold = new Promise<void>((resolve) => Object.assign(window, { letGo: resolve }));
    window.fetch = async (input, init) => {
      const response = await original(input, init);
      if (!String(input).endsWith("/answer") || !response.body) return response;
      let events = 0;
      let rest = "";
      const held = new TransformStream<string, string>({
        async transform(text, control) {
          const parts = (rest + text).split(/(?<=\n\n)/);
          rest = parts.at(-1)?.endsWith("\n\n") ? "" : (parts.pop() ?? "");
          for (const event of parts) {
            if (events === 2) await hold;
            events += 1;
            control.enqueue(event);
          }
        },
      });
      const body = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(held).pipeThrough(new TextEncoderStream());
      return new Response(body, { headers: response.headers });
    };
  });
  await page.goto(at("ask", { collection, answer: "quoted", q: QUESTION }));
  await expect(page.locator("blockquote")).toHaveCount(1);
  await expect(page.locator("li.turn")).toHaveAttribute("aria-busy", "true");
  await expect(page.getByRole("button", { name: "Stop" })).toBeVisible();
  await page.evaluate(() => (window as unknown as { letGo: () => void }).letGo());
  await settled(page);
  await expect(page.getByRole("button", { name: "Ask" })).toBeVisible();
  await expect(page.locator("blockquote .number").first()).toBeVisible();
});

test("what the documents do not answer is refused, with what was found", async ({ page }) => {
  await page.goto(at("ask", { collection, q: "how hot is the surface of Venus?" }));
  await settled(page);
  await expect(page.locator(".refusal")).toHaveText("These documents do not answer this.");
  await expect(page.locator(".answer")).toContainText(/probability of \d+ %; \d+ % is needed/);
  await expect(page.getByRole("region", { name: "What was found" }).getByRole("link").first()).toBeVisible();
});

test("a follow-up carries the conversation", async ({ page }) => {
  await page.goto(at("ask", { collection, answer: "quoted", q: QUESTION }));
  await settled(page);
  const sent = page.waitForRequest(/\/answer$/);
  await page.getByRole("textbox", { name: "Follow-up question" }).fill("Who led it after him?");
  await page.keyboard.press("Enter");
  const { history, question } = (await sent).postDataJSON();
  expect(question).toBe("Who led it after him?");
  expect(history.map((message: { role: string }) => message.role)).toEqual(["ROLE_USER", "ROLE_ASSISTANT"]);
  expect(history[0].content).toBe(QUESTION);
  await settled(page);
  await expect(page.locator("li.turn")).toHaveCount(2);
  await expect(page.getByRole("heading", { name: "Who led it after him?" })).toBeInViewport();
  await page.getByRole("link", { name: "New conversation" }).click();
  await expect(page.locator("li.turn")).toHaveCount(0);
});

test("an answer can be stopped", async ({ page }) => {
  await page.route(/\/answer$/, () => undefined);
  await page.goto(at("ask", { collection, q: QUESTION }));
  const failed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/answer"));
  await page.getByRole("button", { name: "Stop" }).click();
  await failed;
  await expect(page.locator(".turn")).toContainText("Stopped.");
  await expect(page.getByRole("button", { name: "Ask" })).toBeVisible();
});

test("an error in the middle of an answer is told, and what came before stays", async ({ page }) => {
  const body = [
    'event: delta\ndata: {"delta":"It began"}\n\n',
    'event: error\ndata: {"error":{"code":"SHUTTING_DOWN","message":"the server stops"}}\n\n',
  ].join("");
  await page.route(/\/answer$/, (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await page.goto(at("ask", { collection, q: QUESTION }));
  await expect(page.locator(".written")).toHaveText("It began");
  await expect(page.getByRole("alert")).toContainText("The server stops");
});

test("a written answer is told apart from a quoted one", async ({ page }) => {
  const span = { start: 0, end: 11 };
  const passage = { document_id: "text/gitfaq.txt", passage_index: 0, span: { start: 0, end: 9 }, text: "gitfaq(7)", headings: [] };
  const events = [
    { retrieval: { hits: [], used_count: 1, query: "", mode: "ANSWER_MODE_GENERATIVE", answerability: 0.9, answerability_threshold: 0.2 } },
    { delta: "It is a FAQ. Perhaps." },
    { citation: { number: 1, answer_span: { start: 0, end: 12 }, passage, passage_span: { start: 0, end: 9 }, score: 1 } },
    {
      done: {
        text: "It is a FAQ. Perhaps.",
        finish_reason: "FINISH_REASON_LENGTH",
        kind: "ANSWER_KIND_WRITTEN",
        model: "tiny",
        missing_claim: "figure 7",
        support: [
          { answer_span: span, number: 1, score: 1 },
          { answer_span: { start: 13, end: 21 }, number: 0, score: 0 },
        ],
      },
    },
  ];
  const body = events.map((event) => `event: ${Object.keys(event)[0]}\ndata: ${JSON.stringify(event)}\n\n`).join("");
  await page.route(/\/answer$/, (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await page.goto(at("ask", { collection, q: QUESTION }));
  await expect(page.locator(".kind")).toHaveText("Written by tiny from the documents");
  await expect(page.locator("blockquote")).toHaveCount(0);
  await expect(page.locator(".unsupported")).toContainText("Perhaps.");
  await expect(page.locator(".answer")).toContainText("the passages do not say “figure 7”");
  await expect(page.locator(".answer")).toContainText("cut off");
});

test.describe("refused", () => {
  test.use({ allowed: REFUSED });

  test("a question to a collection that is not there", async ({ page }) => {
    await page.goto(at("ask", { collection: "not-there", q: QUESTION }));
    await expect(page.getByRole("alert")).toContainText("UNKNOWN_COLLECTION");
  });
});
