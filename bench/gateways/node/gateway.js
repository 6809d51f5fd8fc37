// The gateway that tortxd replaces, as far as it relays: express, axios and socks-proxy-agent.
//
// usage: node gateway.js PORT SOCKS_URL once|kept
//
//   once  an agent for each request, and so a connection, as that gateway had it
//   kept  one agent, which keeps its connections

import axios from "axios";
import express from "express";
import { SocksProxyAgent } from "socks-proxy-agent";

const [port, socks, life] = process.argv.slice(2);
const shared = new SocksProxyAgent(socks, { keepAlive: true });
const dropped = new Set(["host", "connection", "content-length", "transfer-encoding"]);

function kept(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !dropped.has(name)));
}

const app = express();
app.all("/proxy", async (request, response) => {
  const agent = life === "kept" ? shared : new SocksProxyAgent(socks);
  const hasBody = "content-length" in request.headers || "transfer-encoding" in request.headers;
  try {
    const answer = await axios({
      method: request.method,
      url: request.query.url,
      headers: kept(request.headers),
      data: hasBody ? request : undefined,
      httpAgent: agent,
      httpsAgent: agent,
      responseType: "stream",
      decompress: false,
      maxRedirects: 0,
      maxBodyLength: Infinity,
      validateStatus: () => true,
    });
    response.status(answer.status).set(kept(answer.headers));
    answer.data.pipe(response);
    response.on("close", () => answer.data.destroy());
  } catch (error) {
    response.status(502).json({ error: error.message });
  }
});
app.listen(Number(port), "127.0.0.1");
