// The Agents SDK for Node on Responses: tools, hand-offs, typed output, streams.
import { Agent, OpenAIProvider, Runner, tool } from "@openai/agents";
import { z } from "zod";
import { all, answer, Book, NAMES } from "./case.mjs";

const parameters = z.object({ city: z.string() });
const execute = async ({ city }) => ({ done: city });
const tools = NAMES.map((name) => tool({ name, description: name, parameters, execute }));

const runner = ({ url }) =>
  new Runner({ modelProvider: new OpenAIProvider({ apiKey: "sk-test", baseURL: url }), tracingDisabled: true });
const agent = ({ model, settings }, more) =>
  new Agent({ name: "guide", instructions: "Be brief.", model, modelSettings: settings ?? {}, ...more });

await answer({
  async journey(given) {
    const run = await runner(given).run(agent(given, { tools }), given.asked, { stream: given.streams });
    const events = given.streams ? await all(run) : [];
    await run.completed;
    const told = events.filter(({ data }) => data?.type === "output_text_delta").map(({ data }) => data.delta);
    return { text: run.finalOutput, told: told.join(""), usage: run.rawResponses.at(-1).usage };
  },

  async again(given) {
    const guide = agent(given, { tools });
    const first = await runner(given).run(guide, "call alpha");
    const question = { role: "user", content: "Thank you. Now call beta" };
    const second = given.names
      ? await runner(given).run(guide, [question], { previousResponseId: first.lastResponseId })
      : await runner(given).run(guide, [...first.history, question]);
    return { text: second.finalOutput };
  },

  async typed(given) {
    return (await runner(given).run(agent(given, { outputType: Book }), "A book, please")).finalOutput;
  },

  async handed(given) {
    const poet = agent(given, { name: "poet", instructions: "Speak in verse." });
    const run = await runner(given).run(agent(given, { handoffs: [poet] }), "call transfer_to_poet");
    return { last: run.lastAgent.name, text: run.finalOutput };
  },
});
