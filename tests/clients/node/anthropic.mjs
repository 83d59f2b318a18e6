// Anthropic's own package: what its helpers make of answers and streams, its tool runner, counts and models.
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";
import { all, answer, NAMES } from "./case.mjs";

const client = ({ url }) => new Anthropic({ baseURL: url.replace(/\/v1$/, ""), apiKey: "sk-test", maxRetries: 0 });
const asked = ({ model, prompt, thinking }) => ({
  model,
  max_tokens: 4000,
  messages: [{ role: "user", content: prompt ?? "Hello" }],
  ...(thinking && { thinking }),
});
const tools = NAMES.map((name) =>
  betaZodTool({
    name,
    description: name,
    inputSchema: z.object({ city: z.string() }),
    run: ({ city }) => JSON.stringify({ done: city }),
  }),
);
const told = ({ status, requestID, error }) => ({ status, requestID, error });

await answer({
  async helper(given) {
    const { messages } = client(given);
    const whole = await messages.create(asked(given));
    const stream = messages.stream(asked(given));
    const texts = [];
    stream.on("text", (text) => texts.push(text));
    const final = await stream.finalMessage();
    const types = (await all(await messages.create({ ...asked(given), stream: true }))).map(({ type }) => type);
    return { whole, final, text: texts.join(""), types, request: whole._request_id };
  },

  async journey(given) {
    const runner = client(given).beta.messages.toolRunner({ ...asked(given), tools, stream: given.streams });
    let last;
    for await (const each of runner) last = given.streams ? await each.finalMessage() : each;
    return { content: last.content, stop_reason: last.stop_reason };
  },

  async counted(given) {
    const { model, messages } = asked(given);
    const made = client(given);
    const { input_tokens } = await made.messages.countTokens({ model, messages });
    const models = await all(made.models.list({ limit: 7 }));
    return { input_tokens, models: models.map(({ id }) => id), one: await made.models.retrieve(model) };
  },

  async failed(given) {
    const { messages } = client(given);
    const before = await messages.create(asked(given)).catch(told);
    const cut = await messages.stream(asked(given)).finalMessage().catch(told);
    return { before, cut };
  },
});
