// LangChain's ChatOpenAI on Responses, as n8n runs it.
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { all, answer, Book, NAMES } from "./case.mjs";

const schema = z.object({ city: z.string() });
const tools = NAMES.map((name) => tool(async ({ city }) => JSON.stringify({ done: city }), { name, schema }));

const chat = ({ url, model, options }) =>
  new ChatOpenAI({
    model,
    apiKey: "sk-test",
    maxRetries: 0,
    useResponsesApi: true,
    configuration: { baseURL: url },
    ...options,
  });

async function asked(bound, history, streams) {
  if (!streams) return bound.invoke(history);
  return (await all(await bound.stream(history))).reduce((whole, chunk) => whole.concat(chunk));
}

await answer({
  async journey(given) {
    const bound = chat(given).bindTools(tools, given.bound);
    const history = [new HumanMessage(given.asked)];
    for (;;) {
      const said = await asked(bound, history, given.streams);
      history.push(said);
      if (said.tool_calls.length === 0) return { text: said.text, usage: said.usage_metadata };
      // tools run with the arguments they were given; it is the calls that v1 streams then send back with {}
      for (const call of said.tool_calls) history.push(await tools[NAMES.indexOf(call.name)].invoke(call));
    }
  },

  async typed(given) {
    return chat(given).withStructuredOutput(Book, { method: given.method }).invoke("A book, please");
  },

  async stream(given) {
    const said = await asked(chat(given), [new HumanMessage("Hello")], true);
    return { text: said.text, usage: said.usage_metadata, status: said.response_metadata.status };
  },

  async seen(given) {
    const image_url = { url: `data:image/png;base64,${given.picture}` };
    const content = [{ type: "text", text: "What is it?" }, { type: "image_url", image_url }];
    return { text: (await chat(given).invoke([new HumanMessage({ content })])).text };
  },
});
