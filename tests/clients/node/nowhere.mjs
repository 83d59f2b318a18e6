// No client: it tries to leave the machine, by each way that clients take.
import http from "node:http";
import https from "node:https";
import { answer } from "./case.mjs";

const words = ({ message, cause }) => cause?.message ?? message;
const asked = (module, url) => new Promise((_, fail) => module.get(url).on("error", fail)).catch(words);

await answer({
  async all() {
    return [
      await fetch("http://192.0.2.1/").catch(words),
      await asked(http, "http://192.0.2.1/"),
      await asked(https, "https://example.invalid/"),
    ];
  },
});
