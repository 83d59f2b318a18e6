// No way out of this machine, in this process: node --import ./only_loopback.mjs. tests/no_way_out does it for Python.
import net from "node:net";

const HERE = new Set(["127.0.0.1", "::1", "localhost"]);
const connect = net.Socket.prototype.connect; // below fetch, http, https and tls alike

net.Socket.prototype.connect = function (...given) {
  const [first] = given.flat();
  const host = typeof first === "object" ? (first.host ?? first.path) : given[1];
  if (!HERE.has(host)) throw new Error(`a test may only talk to this machine, not to ${host}`);
  return connect.apply(this, given);
};
